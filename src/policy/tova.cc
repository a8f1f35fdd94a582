// TOVA (arXiv 2401.06104): the rows that the last query looks at, averaged over all heads of the layer, so that a layer
// keeps one set of rows. The authors drop the newest row too when it is the least attended; here it always stays.
//
// One set is possible only while the heads of the layer hold the same tokens and may keep as many. Where they do not,
// after a compaction with different rows per head or under a budget that is not uniform, each head goes by itself.
#include <algorithm>

#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

bool heads_agree(const kv::LayerView& view, std::span<const uint32_t> rows) {
  const auto same_tokens = [&](const kv::HeadView& head) { return std::ranges::equal(head.pos, view.heads[0].pos); };
  const auto same_rows = [&](uint32_t limit) { return limit == rows[0]; };
  return std::ranges::all_of(view.heads, same_tokens) && std::ranges::all_of(rows, same_rows);
}

class Tova final : public ScorePolicy {
 public:
  Needs needs() const override { return {.window = 1}; }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override {
    return {head.attn_win.begin(), head.attn_win.end()};
  }

  kv::LayerPlan plan_layer(const kv::LayerView& view, std::span<const uint32_t> rows) const override {
    const bool fits = view.heads.empty() || view.heads[0].rows() <= rows[0];
    if (fits || !heads_agree(view, rows)) return ScorePolicy::plan_layer(view, rows);
    const std::vector<uint32_t> kept = top_rows(layer_scores(view, rows[0]), rows[0]);
    kv::LayerPlan plan;
    for (const kv::HeadView& head : view.heads) plan.push_back(kv::keep_rows(head, kept));
    return plan;
  }

 private:
  // [n] sum over the heads, which ranks as their mean does.
  std::vector<float> layer_scores(const kv::LayerView& view, uint32_t limit) const {
    std::vector<double> sums(view.heads[0].rows());
    for (const kv::HeadView& head : view.heads) {
      const std::vector<float> scores = row_scores(head, limit);
      std::ranges::transform(sums, scores, sums.begin(), [](double sum, float score) { return sum + double{score}; });
    }
    std::vector<float> scores;
    for (double sum : sums) scores.push_back(static_cast<float>(sum));
    return scores;
  }
};

}  // namespace

std::unique_ptr<Policy> make_tova() { return std::make_unique<Tova>(); }

}  // namespace kvmerger::policy
