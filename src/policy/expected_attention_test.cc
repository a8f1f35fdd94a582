#include <doctest/doctest.h>

#include <cmath>

#include "policy/test_rivals.h"

namespace kvmerger::policy {
namespace {

// The formula as written: the mean of softmax(q.k / sqrt(d) + b) over the queries, times |v|.
std::vector<double> literal(const kv::HeadView& head) {
  const uint32_t n = head.rows(), dim = head.key.dim;
  std::vector<double> scores(n);
  for (uint32_t query = 0; query < head.query.count; ++query) {
    std::vector<double> weight(n);
    double total = 0.0;
    for (uint32_t row = 0; row < n; ++row) {
      double dot = 0.0;
      for (uint32_t at = 0; at < dim; ++at) dot += double{head.query[query][at]} * double{head.key[row][at]};
      total += weight[row] = std::exp(dot / std::sqrt(double{1.0 * dim}) + double{head.bias[row]});
    }
    for (uint32_t row = 0; row < n; ++row) scores[row] += weight[row] / total / head.query.count;
  }
  for (uint32_t row = 0; row < n; ++row) {
    double square = 0.0;
    for (const float value : head.value[row]) square += double{value} * double{value};
    scores[row] *= std::sqrt(square);
  }
  return scores;
}

// exp of mean and half variance of q.k / sqrt(d), plus b, as a softmax over the rows for each query head. The variance
// is that of the logits themselves, without a covariance matrix.
std::vector<double> literal_gaussian(const kv::HeadView& head, double epsilon) {
  const uint32_t n = head.rows(), dim = head.key.dim, each = head.query.count / head.query_heads;
  std::vector<double> scores(n, epsilon);
  for (uint32_t member = 0; member < head.query_heads; ++member) {
    std::vector<double> weight(n);
    double total = 0.0;
    for (uint32_t row = 0; row < n; ++row) {
      double sum = 0.0, squares = 0.0;
      for (uint32_t query = member * each; query < (member + 1) * each; ++query) {
        double dot = 0.0;
        for (uint32_t at = 0; at < dim; ++at) dot += double{head.query[query][at]} * double{head.key[row][at]};
        const double logit = dot / std::sqrt(double{1.0 * dim});
        sum += logit / each, squares += logit * logit / each;
      }
      total += weight[row] = std::exp(sum + 0.5 * (squares - sum * sum) + double{head.bias[row]});
    }
    for (uint32_t row = 0; row < n; ++row) scores[row] += weight[row] / total / head.query_heads;
  }
  for (uint32_t row = 0; row < n; ++row) {
    double square = 0.0;
    for (const float value : head.value[row]) square += double{value} * double{value};
    scores[row] *= std::sqrt(square);
  }
  return scores;
}

// Scores with nothing protected but the newest row, which is given back its own.
std::vector<float> scores_of(const std::string& options, const kv::HeadView& head, float newest) {
  std::vector<float> scores = make("expected_attention:sinks=0,recent=1," + options)->row_scores(head, 10);
  CHECK(std::isinf(scores.back()));
  scores.back() = newest;
  return scores;
}

}  // namespace

TEST_CASE("expected attention: Gaussian form as the variance of the logits gives it, per query head") {
  Rng rng(13);
  for (const uint32_t rows : {40U, 257U}) {
    TestHead source = random_head(rows, 8, rng);
    for (float& key : source.key) key *= 0.3F;
    source.query = random_normals(rng, 48 * 8);
    for (size_t at = 0; at < source.query.size(); ++at) source.query[at] += at / 8 < 16 ? 1.0F : -0.5F;
    source.bias[7] = 1.5F;
    kv::HeadView head = source.view({.queries = 48});
    std::vector<double> one_head;
    for (const uint32_t heads : {1U, 3U}) {
      head.query_heads = heads;
      const std::vector<double> expected = literal_gaussian(head, 0.02);
      const auto newest = static_cast<float>(expected.back());
      const std::vector<float> found = scores_of("form=gaussian,eps=0.02", head, newest);
      for (uint32_t row = 0; row < rows; ++row)
        CHECK(double{found[row]} == doctest::Approx(expected[row]).epsilon(1e-3));
      CHECK(one_head != expected);
      one_head = expected;
    }
  }
}

TEST_CASE("expected attention: Gaussian form as numpy") {
  const TestHead source = rival_head(0);
  kv::HeadView head = source.view({.queries = 24});
  head.query_heads = 2;
  CHECK(difference(scores_of("form=gaussian", head, rivals::kGaussian.back()), rivals::kGaussian) == "");
  const std::vector<float> found = scores_of("form=gaussian,eps=0.02", head, rivals::kGaussianEpsilon.back());
  CHECK(difference(found, rivals::kGaussianEpsilon) == "");
}

TEST_CASE("law 24: with equal queries it is softmax at their mean, with Gaussian queries the mean over many") {
  Rng rng(14);
  TestHead source = random_head(50, 4, rng);
  for (float& key : source.key) key *= 0.2F;
  for (size_t at = 0; at < source.query.size(); ++at) source.query[at] = source.query[at % 4];
  const kv::HeadView equal = source.view({.queries = 16});
  const std::vector<float> sampled = scores_of("form=sampled", equal, 0.0F);
  CHECK(difference(scores_of("form=gaussian", equal, 0.0F), sampled) == "");
  // Weights that vary little from query to query: their mean, divided by the sum, is nearly the mean of probabilities.
  for (float& key : source.key) key *= 0.2F;
  source.query = random_normals(rng, 20000 * 4);
  const kv::HeadView many = source.view({.queries = 20000});
  const std::vector<float> mean = scores_of("form=sampled", many, 0.0F),
                           fitted = scores_of("form=gaussian", many, 0.0F);
  for (uint32_t row = 0; row + 1 < 50; ++row) CHECK(fitted[row] == doctest::Approx(mean[row]).epsilon(0.02));
}

TEST_CASE("expected attention: scores as the formula written out, ends protected") {
  Rng rng(11);
  for (const uint32_t rows : {60U, 333U}) {
    TestHead source = random_head(rows, 8, rng);
    source.query = random_normals(rng, 24 * 8);
    source.bias[40] = 1.5F;
    const auto policy = make("expected_attention:queries=24,sinks=2,recent=5");
    const kv::HeadView head = source.view(policy->needs());
    const std::vector<double> expected = literal(head);
    const std::vector<float> scores = policy->row_scores(head, 20);
    for (uint32_t row = 0; row < rows; ++row) {
      if (row < 2 || row >= rows - 5) {
        CHECK(std::isinf(scores[row]));
      } else {
        CHECK(double{scores[row]} == doctest::Approx(expected[row]).epsilon(1e-4));
      }
    }
    const kv::LayerPlan plan = policy->plan({0, 1, {head}}, std::array<uint32_t, 1>{20});
    CHECK(plan[0].rows() == 20);
    double least_kept = 1e9, most_dropped = 0.0;
    for (uint32_t row = 2, at = 2; row < rows - 5; ++row) {
      const bool kept = at < 15 && plan[0].pivot[at] == row;
      at += kept;
      (kept ? least_kept : most_dropped) =
          kept ? std::min(least_kept, expected[row]) : std::max(most_dropped, expected[row]);
    }
    CHECK(least_kept >= most_dropped * 0.9999);
  }
}

TEST_CASE("expected attention: a view without reference queries is refused") {
  Rng rng(12);
  TestHead source = random_head(30, 4, rng);
  const auto policy = make("expected_attention");
  CHECK_THROWS_WITH(policy->plan({0, 1, {source.view({})}}, std::array<uint32_t, 1>{10}),
                    doctest::Contains("reference queries"));
}

}  // namespace kvmerger::policy
