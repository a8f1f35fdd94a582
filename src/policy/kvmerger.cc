// KVMerger (arXiv 2407.08454): runs of neighbours with similar keys become one row each, by Gaussian weights around the
// most attended of them. Finding the runs is in links.cc. The newest and the most attended rows stay as they are.
//
// What the paper leaves open, and how it is read here: the number of rows is met exactly by using the most similar
// links instead of a threshold (`exact`); when links do not suffice, the runs with the least attention are dropped; the
// protected shares shrink in proportion when they exceed the rows allowed. A row that was merged before counts as many
// times as it has tokens, or, with a bias, as much as its mass e^bias.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "policy/links.h"
#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

constexpr double kPaperEpsilon = 0.75;

double squared_distance(std::span<const float> left, std::span<const float> right) {
  double sum = 0.0;
  for (size_t at = 0; at < left.size(); ++at) sum += std::pow(double{left[at]} - double{right[at]}, 2);
  return sum;
}

double log_sum_exp(const std::vector<double>& logs) {
  const double largest = *std::max_element(logs.begin(), logs.end());
  double sum = 0.0;
  for (double value : logs) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

class KvMerger final : public Policy {
 public:
  void options(OptionVisitor& visitor) override;
  Needs needs() const override { return {.attn_sum = true}; }
  bool sizes_itself() const override { return epsilon_.has_value(); }
  bool keeps_whole(uint32_t layer, uint32_t layers) const override {
    return skip_ == "paper" && (layer < 2 || layer + 1 == layers);
  }

 protected:
  kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t rows) const override;

 private:
  struct Protected {
    Protection ends;
    uint32_t heavy;
  };
  struct Run {
    uint32_t begin, end, pivot;
    uint32_t size() const { return end - begin; }
  };

  Protected protected_counts(uint32_t n, uint32_t limit) const;
  std::vector<float> protected_attention(const kv::HeadView& head, uint32_t limit) const;
  std::vector<uint32_t> find_runs(const kv::HeadView& head, std::span<const float> attention, uint32_t rows) const;
  std::vector<double> log_kernel(const kv::HeadView& head, const Run& run) const;
  void merge(const kv::HeadView& head, const Run& run, kv::HeadPlan& plan) const;

  std::optional<double> epsilon_, sigma_ = 5.0, recent_, heavy_;
  double rel_ = 1.0;
  uint32_t sinks_ = 0;
  std::string skip_ = "paper", value_ = "sum", key_ = "merged";
  bool bias_ = false, exact_ = true, merge_ = true;
};

void KvMerger::options(OptionVisitor& visitor) {
  visitor.real_or_auto("epsilon", epsilon_, -1.01, 1.01,
                       "neighbours with a larger cosine are merged; without a budget it decides how many rows stay");
  visitor.real_or_auto("sigma", sigma_, 1e-3, 1e6, "width of the Gaussian; auto: relative to the distances in the run");
  visitor.real("rel", rel_, 1e-3, 1e3, "with sigma=auto: sigma^2 over the mean squared distance to the pivot");
  visitor.real_or_auto("recent", recent_, 0, 1,
                       "share of newest rows that stay; auto: 0.17, or 0.08 at 40 % and below");
  visitor.real_or_auto("heavy", heavy_, 0, 1, "share of most attended rows that stay; auto: 0.12, or 0.02");
  visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay");
  visitor.choice("skip", skip_, {"paper", "none"}, "layers left whole: 0, 1 and the last, or none");
  visitor.choice("value", value_, {"sum", "mean"}, "merged value: weighted sum times the count, or weighted mean");
  visitor.flag("bias", bias_, "logit bias log(mass) for merged rows");
  visitor.choice("key", key_, {"merged", "pivot"}, "merged key: weighted mean, or the pivot's");
  visitor.flag("exact", exact_, "meet the budget by the most similar neighbours; off: by epsilon (auto: 0.75)");
  visitor.flag("merge", merge_, "off: the eviction twin, same protection, score and number of rows");
}

// sinks, recent and heavy rows that fit in `limit`; the newest row is among them.
KvMerger::Protected KvMerger::protected_counts(uint32_t n, uint32_t limit) const {
  const bool half = limit > share_rows(0.4, n);  // the paper's shares for 50 %, else those for 35 %
  const uint32_t sinks = std::min(sinks_, limit - 1), room = limit - sinks;
  const uint64_t recent = std::max(1U, share_rows(recent_.value_or(half ? 0.17 : 0.08), n));
  const uint64_t heavy = share_rows(heavy_.value_or(half ? 0.12 : 0.02), n);
  if (recent + heavy <= room) return {{sinks, static_cast<uint32_t>(recent)}, static_cast<uint32_t>(heavy)};
  const uint32_t fitting = std::max(1U, static_cast<uint32_t>(recent * room / (recent + heavy)));
  return {{sinks, fitting}, room - fitting};
}

// [n] attention, raised to infinity for the rows that stay as they are.
std::vector<float> KvMerger::protected_attention(const kv::HeadView& head, uint32_t limit) const {
  const Protected counts = protected_counts(head.rows(), limit);
  std::vector<float> attention(head.attn_sum.begin(), head.attn_sum.end());
  protect(attention, counts.ends);
  for (uint32_t row : top_rows(attention, counts.ends.sinks + counts.ends.recent + counts.heavy)) {
    attention[row] = std::numeric_limits<float>::infinity();
  }
  return attention;
}

std::vector<uint32_t> KvMerger::find_runs(const kv::HeadView& head, std::span<const float> attention,
                                          uint32_t rows) const {
  std::vector<uint8_t> alone;
  for (float received : attention) alone.push_back(std::isinf(received));
  const std::vector<float> cosines = adjacent_cosines(head.key, alone);
  const bool by_count = exact_ && rows != kOwnChoice;
  return run_begins(by_count ? strongest_links(cosines, head.rows() - rows)
                             : links_above(cosines, epsilon_.value_or(kPaperEpsilon)));
}

kv::HeadPlan KvMerger::plan_head(const kv::HeadView& head, uint32_t rows) const {
  const uint32_t limit = std::min(rows, head.rows());
  const std::vector<float> attention = protected_attention(head, limit);
  const std::vector<uint32_t> begins = find_runs(head, attention, rows);
  const uint32_t count = std::min(limit, static_cast<uint32_t>(begins.size()) - 1);
  if (!merge_) return kv::keep_rows(head, top_rows(attention, count));

  std::vector<float> received;  // [runs] attention of a run: that of its rows added up, as a merged row's will be
  for (size_t run = 0; run + 1 < begins.size(); ++run) {
    const auto part = std::span(attention).subspan(begins[run], begins[run + 1] - begins[run]);
    received.push_back(static_cast<float>(std::accumulate(part.begin(), part.end(), 0.0)));
  }
  kv::HeadPlan plan;
  for (uint32_t run : top_rows(received, count)) {
    const auto first = attention.begin() + begins[run];
    const auto pivot = std::max_element(first, attention.begin() + begins[run + 1]);  // the first of equals
    merge(head, {begins[run], begins[run + 1], static_cast<uint32_t>(pivot - attention.begin())}, plan);
  }
  return plan;
}

// [run] logarithms of the Gaussian kernel around the pivot.
std::vector<double> KvMerger::log_kernel(const kv::HeadView& head, const Run& run) const {
  std::vector<double> kernel;
  for (uint32_t row = run.begin; row < run.end; ++row) {
    kernel.push_back(squared_distance(head.key[row], head.key[run.pivot]));
  }
  const double mean = std::accumulate(kernel.begin(), kernel.end(), 0.0) / (run.size() - 1);
  const double variance = sigma_ ? *sigma_ * *sigma_ : rel_ * mean;
  for (double& value : kernel) value = variance > 0.0 ? -value / (2 * variance) : 0.0;
  return kernel;
}

// With key=pivot the other rows are sources of weight 0, so that the new row still counts their tokens.
void KvMerger::merge(const kv::HeadView& head, const Run& run, kv::HeadPlan& plan) const {
  if (run.size() == 1) return plan.keep(head, run.begin);
  const auto masses = head.mass.subspan(run.begin, run.size()), biases = head.bias.subspan(run.begin, run.size());
  const double count = std::accumulate(masses.begin(), masses.end(), 0.0);
  std::vector<double> weights = log_kernel(head, run);
  for (size_t at = 0; at < run.size(); ++at) weights[at] += bias_ ? double{biases[at]} : std::log(double{masses[at]});
  const double total = log_sum_exp(weights);
  std::vector<kv::Source> key, value;
  for (uint32_t at = 0; at < run.size(); ++at) {
    const uint32_t row = run.begin + at;
    const double weight = std::exp(weights[at] - total), pivot_only = row == run.pivot ? 1.0 : 0.0;
    key.push_back({row, static_cast<float>(key_ == "pivot" ? pivot_only : weight)});
    value.push_back({row, static_cast<float>(value_ == "sum" ? weight * count / double{masses[at]} : weight)});
  }
  plan.key.add(key);
  plan.value.add(value);
  plan.bias.push_back(bias_ ? static_cast<float>(log_sum_exp({biases.begin(), biases.end()})) : 0.0F);
  plan.pivot.push_back(run.pivot);
}

}  // namespace

std::unique_ptr<Policy> make_kvmerger() { return std::make_unique<KvMerger>(); }

}  // namespace kvmerger::policy
