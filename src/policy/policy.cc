#include "policy/policy.h"

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace kvmerger::policy {
namespace {

void check_statistic(bool wanted, size_t found, uint32_t rows, const char* what) {
  if (!wanted || found == rows) return;
  throw Error(cat("this cache was made without ", what, ", which the policy reads; read the document again with this ",
                  "policy, or choose one that does not need them (kvmerger list policies)"));
}

kv::LayerPlan keep_layer(const kv::LayerView& view) {
  kv::LayerPlan plan;
  for (const kv::HeadView& head : view.heads) plan.push_back(kv::keep_all(head));
  return plan;
}

void check_counts(const kv::LayerPlan& plan, std::span<const uint32_t> rows, uint32_t layer) {
  for (size_t head = 0; head < std::min(plan.size(), rows.size()); ++head) {
    if (plan[head].rows() <= rows[head]) continue;
    throw Error(cat("layer ", layer, ", head ", head, ": the policy kept ", plan[head].rows(), " rows where ",
                    rows[head], " are allowed; this is a fault of the policy"));
  }
}

}  // namespace

void Policy::check_statistics(const kv::HeadView& head, const Needs& needs) {
  check_statistic(needs.attn_sum, head.attn_sum.size(), head.rows(), "attention sums");
  check_statistic(needs.window > 0, head.attn_win.size(), head.rows(), "attention of the last queries");
  check_statistic(needs.reconstruction, head.attn_max.size(), head.rows(), "a reconstruction pass");
  check_statistic(needs.queries > 0 && head.query.count == 0, 0, head.rows(), "reference queries");
}

kv::LayerPlan Policy::plan(const kv::LayerView& view, std::span<const uint32_t> rows) const {
  const bool own_choice = rows.empty();
  KVM_CHECK(own_choice ? sizes_itself() : rows.size() == view.heads.size());
  if (own_choice && keeps_whole(view.index, view.count)) return keep_layer(view);
  const std::vector<uint32_t> own(view.heads.size(), kOwnChoice);
  kv::LayerPlan plan = plan_layer(view, own_choice ? own : rows);
  check_counts(plan, rows, view.index);
  kv::validate(plan, view);
  return plan;
}

kv::HeadPlan Policy::plan_head(const kv::HeadView&, uint32_t) const {
  KVM_CHECK(!"a policy overrides plan_head or plan_layer");
  return {};
}

kv::LayerPlan Policy::plan_layer(const kv::LayerView& view, std::span<const uint32_t> rows) const {
  kv::LayerPlan plan;
  for (size_t index = 0; index < view.heads.size(); ++index) {
    const kv::HeadView& head = view.heads[index];
    const bool fits = head.rows() == 0 || (rows[index] != kOwnChoice && head.rows() <= rows[index]);
    if (!fits) check_statistics(head, needs());
    plan.push_back(fits ? kv::keep_all(head) : plan_head(head, rows[index]));
  }
  return plan;
}

}  // namespace kvmerger::policy
