// Expected attention (arXiv 2510.00636): rows that questions not asked yet are likely to look at, times the length of
// their value. The expectation is the mean over the reference queries themselves, where the authors assume that queries
// are Gaussian and work with their mean and covariance.
#include <cmath>

#include "kernels/dense.h"
#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

class ExpectedAttention final : public ScorePolicy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.whole("queries", queries_, 16, 4096, "reference queries per KV head");
    visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay");
    visitor.whole("recent", recent_, 1, 4096, "newest rows that stay");
  }
  Needs needs() const override { return {.queries = queries_}; }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override;
  Protection protection(uint32_t) const override { return {sinks_, recent_}; }

 private:
  uint32_t queries_ = 256, sinks_ = 4, recent_ = 32;
};

// [n] mean probability over all reference queries of the group.
std::vector<float> mean_attention(const kv::HeadView& head) {
  const uint32_t n = head.rows(), dim = head.key.dim, count = head.query.count;
  std::vector<float> weights(size_t{count} * n), largest(count), share(count), mean(n);
  kernels::multiply({head.query.data, dim, 1}, {head.key.data, 1, dim}, count, dim, n, weights.data());
  const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
  kernels::softmax_rows(weights.data(), count, n, scale, head.bias.data(), largest.data(), share.data());
  for (float& sum : share) sum = 1.0F / (sum * static_cast<float>(count));
  kernels::vector_multiply(share.data(), weights.data(), count, n, mean.data());
  return mean;
}

float norm(std::span<const float> row) {
  double sum = 0.0;
  for (const float value : row) sum += double{value} * double{value};
  return static_cast<float>(std::sqrt(sum));
}

std::vector<float> ExpectedAttention::score(const kv::HeadView& head) const {
  std::vector<float> scores = mean_attention(head);
  for (uint32_t row = 0; row < head.rows(); ++row) scores[row] *= norm(head.value[row]);
  return scores;
}

}  // namespace

std::unique_ptr<Policy> make_expected_attention() { return std::make_unique<ExpectedAttention>(); }

}  // namespace kvmerger::policy
