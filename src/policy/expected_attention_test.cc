#include <doctest/doctest.h>

#include <cmath>

#include "policy/test_heads.h"

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

}  // namespace

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
