#include "engine/compactor.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <span>

#include "core/error.h"
#include "core/threads.h"

namespace kvmerger::engine {
namespace {

std::vector<uint32_t> rows_of(const kv::Store& store) {
  std::vector<uint32_t> rows;
  for (uint32_t layer = 0; layer < store.shape().layers; ++layer) {
    for (uint32_t head = 0; head < store.shape().heads; ++head) rows.push_back(store.rows(layer, head));
  }
  return rows;
}

}  // namespace

policy::Needs all_of(const policy::Needs& left, const policy::Needs& right) {
  return {left.attn_sum || right.attn_sum, std::max(left.window, right.window),
          left.reconstruction || right.reconstruction, std::max(left.queries, right.queries)};
}

Compactor::Compactor(const CompactionSpec& spec)
    : spec_(spec), policy_(policy::make(spec.policy)), heads_(budget::make(spec.heads)), fit_(fit::make(spec.fit)) {
  if (!spec.budget.empty()) size_ = budget::parse_size(spec.budget);
  if (policy_->compresses() && !size_ && !policy_->sizes_itself()) {
    throw UsageError(cat("policy '", spec.policy, "' needs a budget: --kv-budget 35%, 2048 (rows per head) or 64MiB"));
  }
  if (!policy_->compresses() && size_) {
    throw UsageError(cat("--kv-budget ", spec.budget, " has no effect with policy '", spec.policy,
                         "'; choose another with --kv-policy (kvmerger list policies)"));
  }
}

policy::Needs Compactor::needs() const {
  policy::Needs needs = policy_->needs();
  needs.queries = std::max(needs.queries, fit_->queries());
  return needs;
}

std::vector<uint32_t> Compactor::share_out(const kv::Store& store, std::string& note) const {
  budget::Request request;
  request.layers = store.shape().layers;
  request.heads = store.shape().heads;
  request.have = rows_of(store);
  for (uint32_t layer = 0; layer < request.layers; ++layer) {
    request.whole.push_back(policy_->keeps_whole(layer, request.layers));
  }
  request.total = budget::total_rows(*size_, request.have, kv::page_bytes(store.shape()));
  budget::Result result = heads_->rows(request);
  note = result.note;
  return std::move(result.rows);
}

kv::LayerPlan Compactor::plan(const kv::LayerView& view, const std::vector<uint32_t>& rows) const {
  const size_t heads = view.heads.size();
  const auto own = rows.empty() ? std::span<const uint32_t>() : std::span(rows).subspan(view.index * heads, heads);
  return fit_->fit(view, policy_->plan(view, own));
}

void Compactor::compact(kv::Store& store, const std::vector<uint32_t>& rows, uint32_t threads) const {
  std::mutex applying;  // layers share the store's pool
  parallel_for(store.shape().layers, threads, [&](uint32_t layer) {
    if (rows.empty() && policy_->keeps_whole(layer, store.shape().layers)) return;
    const kv::Store::LayerData data = store.view(layer);
    const kv::LayerPlan plan = this->plan(data.view, rows);
    const std::lock_guard lock(applying);
    store.apply(layer, plan);
  });
}

CompactionReport Compactor::run(kv::Store& store, uint32_t threads) const {
  const auto start = std::chrono::steady_clock::now();
  CompactionReport report;
  report.spec = spec_;
  report.rows_before = store.total_rows();
  report.bytes_before = store.bytes().used;
  if (active() && report.rows_before > 0) {
    const std::vector<uint32_t> rows = size_ ? share_out(store, report.note) : std::vector<uint32_t>{};
    compact(store, rows, threads);
    store.shrink();
  }
  report.rows_after = store.total_rows();
  report.bytes_after = store.bytes().used;
  report.rows = rows_of(store);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace kvmerger::engine
