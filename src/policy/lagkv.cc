// LagKV (arXiv 2504.04704): the rows behind the sinks are cut into partitions; a row stays when its channels, measured
// on the scale of the next partition, spread more than those of its neighbours. No attention is needed.
//
// The last full partition, which has no next, and what is behind it always stay in the original. As in kvpress a row's
// score is its rank within its partition, so that every partition gives up the same share, and the rows behind score
// above all ranks; the number of rows is then exact. Where fewer are allowed than always stay, the newest of those win.
// A channel that is constant in the next partition has no scale and counts as 0.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

class LagKv final : public ScorePolicy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay");
    visitor.whole("lag", lag_, 2, 4096, "rows of a partition");
    visitor.flag("cross", cross_, "scores as they are in place of ranks, comparable between partitions and heads");
  }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override;
  Protection protection(uint32_t) const override { return {sinks_, 1}; }

 private:
  std::vector<double> partition_scores(const kv::HeadView& head, uint32_t begin) const;
  std::vector<double> spreads(const kv::Rows& rows, uint32_t begin) const;

  uint32_t sinks_ = 4, lag_ = 128;
  bool cross_ = false;
};

// [count] in [0, 1): the share of the others that are worse; of equals the lower row is better.
std::vector<double> ranks(const std::vector<double>& scores) {
  std::vector<uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, std::ranges::greater(), [&](uint32_t row) { return scores[row]; });
  std::vector<double> ranks(scores.size());
  for (size_t place = 0; place < order.size(); ++place) {
    ranks[order[place]] = static_cast<double>(scores.size() - 1 - place) / static_cast<double>(scores.size());
  }
  return ranks;
}

double deviation(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double square = 0.0;
  for (const double value : values) square += (value - mean) * (value - mean);
  return std::sqrt(square / std::max(count - 1.0, 1.0));
}

void softmax(std::vector<double>& values) {
  const double largest = std::ranges::max(values);
  double sum = 0.0;
  for (double& value : values) sum += value = std::exp(value - largest);
  for (double& value : values) value /= sum;
}

// [lag] deviation over the channels of each row of the partition, on the scale of the partition behind it.
std::vector<double> LagKv::spreads(const kv::Rows& rows, uint32_t begin) const {
  std::vector<float> least(rows[begin + lag_].begin(), rows[begin + lag_].end()), most = least;
  for (uint32_t row = begin + lag_ + 1; row < begin + 2 * lag_; ++row) {
    for (uint32_t at = 0; at < rows.dim; ++at) {
      least[at] = std::min(least[at], rows[row][at]);
      most[at] = std::max(most[at], rows[row][at]);
    }
  }
  std::vector<double> spreads, scaled(rows.dim);
  for (uint32_t row = begin; row < begin + lag_; ++row) {
    for (uint32_t at = 0; at < rows.dim; ++at) {
      const double range = double{most[at]} - double{least[at]};
      scaled[at] = range > 0.0 ? (double{rows[row][at]} - double{least[at]}) / range : 0.0;
    }
    spreads.push_back(deviation(scaled));
  }
  return spreads;
}

// [lag] scores in [0, 1] of the partition at `begin`.
std::vector<double> LagKv::partition_scores(const kv::HeadView& head, uint32_t begin) const {
  std::vector<double> scores = spreads(head.key, begin), values = spreads(head.value, begin);
  softmax(scores);
  softmax(values);
  for (uint32_t at = 0; at < lag_; ++at) scores[at] = 0.5 * (scores[at] + values[at]);
  return cross_ ? scores : ranks(scores);
}

std::vector<float> LagKv::score(const kv::HeadView& head) const {
  const uint32_t n = head.rows(), sinks = std::min(sinks_, n);
  std::vector<float> scores(n);
  for (uint32_t row = 0; row < n; ++row) scores[row] = 1.0F + static_cast<float>(row) / static_cast<float>(n);
  for (uint32_t begin = sinks; begin + 2 * lag_ <= n; begin += lag_) {
    const std::vector<double> partition = partition_scores(head, begin);
    std::ranges::transform(partition, scores.begin() + begin, [](double score) { return static_cast<float>(score); });
  }
  return scores;
}

}  // namespace

std::unique_ptr<Policy> make_lagkv() { return std::make_unique<LagKv>(); }

}  // namespace kvmerger::policy
