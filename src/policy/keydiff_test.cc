// KeyDiff against all pairs of keys, and against numpy.
#include <doctest/doctest.h>

#include "policy/test_rivals.h"

namespace kvmerger::policy {
namespace {

// The cosine to the mean direction is the mean of the cosines to all keys, but for the length of that mean, the same
// for all rows: so the order follows from pairs alone.
std::vector<double> mean_cosines(const TestHead& head) {
  std::vector<double> means(head.rows);
  for (uint32_t row = 0; row < head.rows; ++row) {
    for (uint32_t other = 0; other < head.rows; ++other) means[row] += literal_cosine(head, row, other) / head.rows;
  }
  return means;
}

TEST_CASE("keydiff: literal second implementation over all pairs") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    const std::vector<double> means = mean_cosines(head);
    const auto score = [&](uint32_t row) { return -means[row]; };
    CHECK(kept_by("keydiff", head, budget) == evict_one_by_one(head.rows, budget, {head.rows - 1}, score));
  });
}

TEST_CASE("keydiff: scores as numpy, the newest row above all") {
  std::vector<float> scores = make("keydiff")->row_scores(rival_head(0).view({}), 10);
  CHECK(std::isinf(scores.back()));
  scores.back() = rivals::kKeyDiff.back();
  CHECK(difference(scores, rivals::kKeyDiff) == "");
}

TEST_CASE("keydiff: the length of single keys makes no difference, keys of 0 score 0") {
  Rng rng(2);
  TestHead head = random_head(80, 4, rng), uneven = head;
  for (uint32_t row = 0; row < head.rows; ++row) {
    for (uint32_t at = 0; at < 4; ++at) uneven.key_of(row)[at] *= static_cast<float>(1 + row % 7);
  }
  CHECK(kept_by("keydiff", uneven, 30) == kept_by("keydiff", head, 30));
  std::fill_n(head.key_of(5), 4, 0.0F);
  CHECK(make("keydiff")->row_scores(head.view({}), 30)[5] == 0.0F);
  std::ranges::fill(head.key, 0.0F);
  CHECK(kept_by("keydiff", head, 3) == std::vector<uint32_t>{0, 1, 79});
}

}  // namespace
}  // namespace kvmerger::policy
