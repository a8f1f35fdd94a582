#include "engine/compactor.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <span>

#include "core/clock.h"
#include "core/error.h"
#include "core/threads.h"
#include "fit/response.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kErrorQueries =
    96;  // reference queries of each query head to predict errors on, if nobody else asks

std::vector<uint32_t> rows_of(const kv::Store& store) {
  std::vector<uint32_t> rows;
  for (uint32_t layer = 0; layer < store.shape().layers; ++layer) {
    for (uint32_t head = 0; head < store.shape().heads; ++head) rows.push_back(store.rows(layer, head));
  }
  return rows;
}

double root_mean_square(const std::vector<double>& errors) {
  double squares = 0.0;
  for (const double error : errors) squares += error * error;
  return errors.empty() ? 0.0 : std::sqrt(squares / static_cast<double>(errors.size()));
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
    throw UsageError(cat("policy '", spec.policy,
                         "' needs a budget (--kv-budget, --budgets): 35%, 2048 (rows per head), 64MiB or auto:0.1 ",
                         "(predicted error)"));
  }
  if (!policy_->compresses() && size_) {
    throw UsageError(cat("--kv-budget ", spec.budget, " has no effect with policy '", spec.policy,
                         "'; choose another with --kv-policy (kvmerger list policies)"));
  }
  if (policy_->compresses() && heads_->scores() == budget::Scores::kPolicy && !policy_->has_row_scores()) {
    throw UsageError(cat("--kv-heads ", spec.heads, " shares rows out by the policy's scores, and '", spec.policy,
                         "' has none; choose other heads or another policy"));
  }
}

policy::Needs Compactor::needs() const {
  policy::Needs needs = policy_->needs();
  needs.queries = std::max(needs.queries, fit_->queries());
  if (by_error() && needs.queries == 0) needs.queries = kErrorQueries;
  needs.reconstruction |= heads_->scores() == budget::Scores::kReconstruction;
  return needs;
}

class Compactor::Run {
 public:
  Run(const Compactor& own, kv::Store& store, const CompactionInput& input, uint32_t threads)
      : own_(own), store_(store), input_(input), threads_(threads), shape_(store.shape()) {}

  // Rows in all that the budget comes to. chosen: CompactionReport::chosen.
  uint64_t total(std::string& chosen) const;
  // [layers * heads] rows allowed.
  std::vector<uint32_t> share_out(uint64_t total, std::string& note) const;
  // rows: [layers * heads] allowed; empty: the policy chooses. Returns the predicted errors. Without apply only these.
  std::vector<double> compact(const std::vector<uint32_t>& rows, bool apply) const;
  kv::LayerPlan plan(uint32_t layer, const std::vector<uint32_t>& rows) const {
    return plan(view(layer).view, rows).plan;
  }

 private:
  bool predictable() const;
  kv::Store::LayerData view(uint32_t layer) const;
  uint64_t rows_of_percent(uint32_t percent) const;
  uint32_t smallest_percent() const;
  std::vector<std::vector<float>> scores(uint64_t total) const;
  fit::Fitted plan(const kv::LayerView& view, const std::vector<uint32_t>& rows) const;
  void predict(const kv::LayerView& view, const fit::Fitted& fitted, std::vector<double>& errors) const;

  const Compactor& own_;
  kv::Store& store_;
  const CompactionInput& input_;
  const uint32_t threads_;
  const kv::StoreShape shape_;
};

bool Compactor::Run::predictable() const {
  return !input_.queries.empty() && input_.queries[0].size() >= size_t{4} * shape_.head_dim;
}

kv::Store::LayerData Compactor::Run::view(uint32_t layer) const {
  kv::Store::LayerData data = store_.view(layer);
  for (uint32_t head = 0; head < shape_.heads && !input_.queries.empty(); ++head) {
    const std::vector<float>& queries = input_.queries[layer * shape_.heads + head];
    data.view.heads[head].query = {queries.data(), static_cast<uint32_t>(queries.size() / shape_.head_dim),
                                   shape_.head_dim};
    data.view.heads[head].query_heads = input_.query_heads;
  }
  return data;
}

std::vector<std::vector<float>> Compactor::Run::scores(uint64_t total) const {
  const budget::Scores wanted = own_.heads_->scores();
  if (wanted == budget::Scores::kNone) return {};
  std::vector<std::vector<float>> scores(size_t{shape_.layers} * shape_.heads);
  const auto per_head = static_cast<uint32_t>(std::max<uint64_t>(1, total / scores.size()));
  parallel_for(shape_.layers, threads_, [&](uint32_t layer) {
    const kv::Store::LayerData data = view(layer);
    for (uint32_t head = 0; head < shape_.heads; ++head) {
      const kv::HeadView& rows = data.view.heads[head];
      std::vector<float>& own = scores[layer * shape_.heads + head];
      if (wanted == budget::Scores::kPolicy) {
        own = own_.policy_->row_scores(rows, per_head);
      } else {
        own.assign(rows.attn_max.begin(), rows.attn_max.end());
      }
      KVM_CHECK(own.size() == rows.rows());
    }
  });
  return scores;
}

std::vector<uint32_t> Compactor::Run::share_out(uint64_t total, std::string& note) const {
  budget::Request request;
  request.layers = shape_.layers;
  request.heads = shape_.heads;
  request.have = rows_of(store_);
  for (uint32_t layer = 0; layer < request.layers; ++layer) {
    request.whole.push_back(own_.policy_->keeps_whole(layer, request.layers));
  }
  request.total = total;
  request.scores = scores(total);
  request.profile = own_.profile_.get();
  budget::Result result = own_.heads_->rows(request);
  note = result.note;
  return std::move(result.rows);
}

fit::Fitted Compactor::Run::plan(const kv::LayerView& view, const std::vector<uint32_t>& rows) const {
  const size_t heads = view.heads.size();
  const auto own = rows.empty() ? std::span<const uint32_t>() : std::span(rows).subspan(view.index * heads, heads);
  return own_.fit_->fit(view, own_.policy_->plan(view, own));
}

void Compactor::Run::predict(const kv::LayerView& view, const fit::Fitted& fitted, std::vector<double>& errors) const {
  for (uint32_t head = 0; head < shape_.heads && !errors.empty(); ++head) {
    const std::optional<double>& measured = fitted.errors[head];
    const double error = measured ? *measured : fit::predicted_error(view.heads[head], fitted.plan[head]);
    errors[view.index * shape_.heads + head] = std::sqrt(error);
  }
}

std::vector<double> Compactor::Run::compact(const std::vector<uint32_t>& rows, bool apply) const {
  std::vector<double> errors;
  if (predictable()) errors.resize(size_t{shape_.layers} * shape_.heads);
  std::mutex applying;  // layers share the store's pool
  parallel_for(shape_.layers, threads_, [&](uint32_t layer) {
    if (rows.empty() && own_.policy_->keeps_whole(layer, shape_.layers)) return;
    const kv::Store::LayerData data = view(layer);
    const fit::Fitted fitted = plan(data.view, rows);
    predict(data.view, fitted, errors);
    if (!apply) return;
    const std::lock_guard lock(applying);
    store_.apply(layer, fitted.plan);
  });
  return errors;
}

uint64_t Compactor::Run::rows_of_percent(uint32_t percent) const {
  return uint64_t{shape_.layers} * shape_.heads * input_.tokens * percent / 100;
}

// By bisection: seven predictions. The error need not fall with every row added; what is found was itself predicted to
// stay within the budget (or is all rows), one per cent less was predicted not to.
uint32_t Compactor::Run::smallest_percent() const {
  const double most = static_cast<double>(own_.size_->amount) / 1e6;
  uint32_t below = 0, enough = 100;
  while (enough - below > 1) {
    const uint32_t middle = (below + enough) / 2;
    std::string note;
    const double error = root_mean_square(compact(share_out(rows_of_percent(middle), note), false));
    (error <= most ? enough : below) = middle;
  }
  return enough;
}

uint64_t Compactor::Run::total(std::string& chosen) const {
  if (!own_.by_error()) return own_.allowed(shape_, input_.tokens);
  const uint32_t percent = predictable() ? smallest_percent() : 100;
  chosen = cat(percent, "%");
  return rows_of_percent(percent);
}

std::vector<double> Compactor::predict(kv::Store& store, const CompactionInput& input, uint32_t threads) const {
  std::string note, chosen;
  const Run run(*this, store, input, threads);
  return run.compact(size_ ? run.share_out(run.total(chosen), note) : std::vector<uint32_t>(), false);
}

kv::LayerPlan Compactor::plan(kv::Store& store, const CompactionInput& input, uint32_t threads, uint32_t layer) const {
  std::string note, chosen;
  const Run run(*this, store, input, threads);
  return run.plan(layer, size_ ? run.share_out(run.total(chosen), note) : std::vector<uint32_t>());
}

uint64_t Compactor::allowed(const kv::StoreShape& shape, uint32_t tokens) const {
  if (!size_ || by_error()) return UINT64_MAX;
  const std::vector<uint32_t> seen(size_t{shape.layers} * shape.heads, tokens);
  return budget::total_rows(*size_, seen, kv::page_bytes(shape));
}

CompactionReport Compactor::run(kv::Store& store, const CompactionInput& input, uint32_t threads) const {
  const auto start = Clock::now();
  CompactionReport report;
  report.spec = spec_;
  report.rows_before = store.total_rows();
  report.bytes_before = store.bytes().used;
  if (active() && report.rows_before > 0) {
    if (needs_profile() && !profile_) throw Error(cat("--kv-heads ", spec_.heads, " needs a profile of the model"));
    const Run run(*this, store, input, threads);
    report.errors =
        run.compact(size_ ? run.share_out(run.total(report.chosen), report.note) : std::vector<uint32_t>(), true);
    if (by_error() && report.errors.empty()) {
      report.note = "the text is too short to predict errors on: the cache stays whole";
    }
    store.shrink();
  }
  report.error = root_mean_square(report.errors);
  report.rows_after = store.total_rows();
  report.bytes_after = store.bytes().used;
  report.rows = rows_of(store);
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace kvmerger::engine
