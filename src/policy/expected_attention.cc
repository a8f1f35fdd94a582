// Expected attention (arXiv 2510.00636): rows that questions not asked yet are likely to look at, times the length of
// their value. The expectation is the mean over the reference queries themselves (form=sampled), or that of Gaussian
// queries with their mean and covariance (form=gaussian), as the authors compute it for each query head.
//
// The authors take mean and covariance of all queries before RoPE and turn both by the average RoPE matrix of the next
// positions. Here they are those of a sample that has been turned to such positions one by one, so that the covariance
// holds what the turning adds to it.
#include <algorithm>
#include <cmath>

#include "kernels/dense.h"
#include "policy/score_policy.h"
#include "policy/vectors.h"

namespace kvmerger::policy {
namespace {

class ExpectedAttention final : public ScorePolicy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.whole("queries", queries_, 8, 4096, "reference queries of each query head");
    visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay");
    visitor.whole("recent", recent_, 1, 4096, "newest rows that stay");
    visitor.choice("form", form_, {"sampled", "gaussian"}, "mean over the queries, or of a Gaussian fitted to them");
    visitor.real("recall", recall_, 0, 1,
                 "weight of the largest attention while the text is repeated (KVzip's score) beside the expected one");
    visitor.real("eps", epsilon_, 0, 1, "added to the expected attention before it is scaled by the value's length");
  }
  Needs needs() const override { return {.reconstruction = recall_ > 0.0, .queries = queries_}; }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override;
  Protection protection(uint32_t) const override { return {sinks_, recent_}; }

 private:
  uint32_t queries_ = 96, sinks_ = 4, recent_ = 32;
  double recall_ = 0.0, epsilon_ = 0.0;
  std::string form_ = "sampled";
};

// [n] mean probability over all reference queries of the group.
std::vector<float> mean_attention(const kv::HeadView& head) {
  const uint32_t n = head.rows(), dim = head.key.dim, count = head.query.count;
  std::vector<float> weights(size_t{count} * n), largest(count), share(count), mean(n);
  kernels::dense_attention(head.query.data, count, head.key.data, n, dim, head.bias.data(), weights.data(),
                           largest.data(), share.data());
  for (float& sum : share) sum = 1.0F / (sum * static_cast<float>(count));
  kernels::vector_multiply(share.data(), weights.data(), count, n, mean.data());
  return mean;
}

// Mean [head_dim] and covariance [head_dim, head_dim] of queries.
struct Gaussian {
  std::vector<float> mean, covariance;
};

Gaussian fitted(const kv::Rows& query) {
  const uint32_t dim = query.dim, count = query.count;
  Gaussian fitted{std::vector<float>(dim), std::vector<float>(size_t{dim} * dim)};
  const std::vector<float> share(count, 1.0F / static_cast<float>(count));
  kernels::vector_multiply(share.data(), query.data, count, dim, fitted.mean.data());
  std::vector<float> centred(query.data, query.data + size_t{count} * dim);
  for (size_t at = 0; at < centred.size(); ++at) centred[at] -= fitted.mean[at % dim];
  kernels::multiply({centred.data(), 1, dim}, {centred.data(), dim, 1}, dim, count, dim, fitted.covariance.data());
  for (float& value : fitted.covariance) value /= static_cast<float>(count);
  return fitted;
}

// [n] logarithm of the expected weight of each row: mean of the logit, and half its variance.
std::vector<float> expected_logits(const kv::HeadView& head, const Gaussian& queries) {
  const uint32_t n = head.rows(), dim = head.key.dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
  std::vector<float> logits(n), turned(size_t{n} * dim);  // turned: [n, head_dim] covariance times key
  kernels::multiply_vector(head.key.data, n, dim, queries.mean.data(), logits.data());
  kernels::multiply({head.key.data, dim, 1}, {queries.covariance.data(), dim, 1}, n, dim, dim, turned.data());
  for (uint32_t row = 0; row < n; ++row) {
    float variance = 0.0F;
    for (uint32_t at = 0; at < dim; ++at) variance += head.key[row][at] * turned[size_t{row} * dim + at];
    logits[row] = scale * logits[row] + 0.5F * scale * scale * variance;
  }
  return logits;
}

// [n] expected probability for Gaussian queries, mean over the query heads of the group.
std::vector<float> gaussian_attention(const kv::HeadView& head) {
  const uint32_t n = head.rows(), dim = head.key.dim, heads = std::min(head.query_heads, head.query.count);
  const uint32_t each = head.query.count / heads;
  std::vector<float> mean(n);
  for (uint32_t member = 0; member < heads; ++member) {
    const kv::Rows own{head.query.data + size_t{member} * each * dim, each, dim};
    std::vector<float> weights = expected_logits(head, fitted(own));
    float largest = 0.0F, sum = 0.0F;
    kernels::softmax_rows(weights.data(), 1, n, 1.0F, head.bias.data(), &largest, &sum);
    for (uint32_t row = 0; row < n; ++row) mean[row] += weights[row] / (sum * static_cast<float>(heads));
  }
  return mean;
}

std::vector<float> ExpectedAttention::score(const kv::HeadView& head) const {
  std::vector<float> scores = form_ == "gaussian" ? gaussian_attention(head) : mean_attention(head);
  const auto epsilon = static_cast<float>(epsilon_), recall = static_cast<float>(recall_);
  for (uint32_t row = 0; row < head.rows() && recall_ > 0.0; ++row) scores[row] += recall * head.attn_max[row];
  const auto length = [](std::span<const float> row) { return static_cast<float>(std::sqrt(square(row))); };
  for (uint32_t row = 0; row < head.rows(); ++row) scores[row] = (scores[row] + epsilon) * length(head.value[row]);
  return scores;
}

}  // namespace

std::unique_ptr<Policy> make_expected_attention() { return std::make_unique<ExpectedAttention>(); }

}  // namespace kvmerger::policy
