// Key norm against dropping the longest key first, and against numpy.
#include <doctest/doctest.h>

#include "policy/test_rivals.h"

namespace kvmerger::policy {
namespace {

float negative_norm(const TestHead& head, uint32_t row) {
  double square = 0;
  for (uint32_t at = 0; at < head.dim; ++at) square += std::pow(double{head.key[row * head.dim + at]}, 2);
  return static_cast<float>(-std::sqrt(square));
}

TEST_CASE("knorm: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    const auto score = [&](uint32_t row) { return negative_norm(head, row); };
    CHECK(kept_by("knorm", head, budget) == evict_one_by_one(head.rows, budget, {head.rows - 1}, score));
  });
}

TEST_CASE("knorm: scores as numpy, the newest row above all") {
  std::vector<float> scores = make("knorm")->row_scores(rival_head(0).view({}), 10);
  CHECK(std::isinf(scores.back()));
  scores.back() = rivals::kKnorm.back();
  CHECK(difference(scores, rivals::kKnorm) == "");
}

TEST_CASE("knorm: keys of 0 stay before all, of equal lengths the first") {
  Rng rng(1);
  TestHead head = random_head(20, 4, rng);
  for (const uint32_t row : {7U, 12U}) std::fill_n(head.key_of(row), 4, 0.0F);
  CHECK(kept_by("knorm", head, 3) == std::vector<uint32_t>{7, 12, 19});
  std::ranges::fill(head.key, 1.0F);
  CHECK(kept_by("knorm", head, 3) == std::vector<uint32_t>{0, 1, 19});
}

}  // namespace
}  // namespace kvmerger::policy
