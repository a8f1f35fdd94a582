// Sharing out by score against sorting all rows.
#include "budget/by_score.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <tuple>

#include "budget/test_request.h"

namespace kvmerger::budget {
namespace {

using Scores = std::vector<std::vector<float>>;

std::vector<uint64_t> found(const Scores& scores, uint64_t total, uint32_t least) {
  std::vector<const std::vector<float>*> heads;
  for (const auto& head : scores) heads.push_back(&head);
  return best_rows(heads, total, least);
}

// One row after the other: of those left the one that is first by (safe, score, head).
std::vector<uint64_t> taken(Scores scores, uint64_t total, uint32_t least) {
  std::vector<uint64_t> counts(scores.size());
  for (uint64_t taken = 0; taken < total; ++taken) {
    std::tuple<bool, float, int> best{false, -1.0F, 0};
    for (size_t head = 0; head < scores.size(); ++head) {
      if (scores[head].empty()) continue;
      const float score = *std::ranges::max_element(scores[head]);
      const bool safe = counts[head] < least;
      best = std::max(best, std::tuple(safe, safe ? 1e9F : score, -static_cast<int>(head)));
    }
    if (std::get<1>(best) < 0) break;
    const auto head = static_cast<size_t>(-std::get<2>(best));
    scores[head].erase(std::ranges::max_element(scores[head]));
    ++counts[head];
  }
  return counts;
}

TEST_CASE("best rows: as taking them one by one") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    Scores scores;
    for (uint32_t head = 0, heads = 1 + rng.below(6); head < heads; ++head) {
      scores.push_back(random_scores(rng.below(40), 1 + rng.below(5), rng));
      if (seed % 3 == 0) {  // ties
        for (float& score : scores.back()) score = static_cast<float>(rng.below(4)) / 4;
      }
    }
    const uint64_t total = rng.below(150);
    const uint32_t least = rng.below(8);
    CHECK(found(scores, total, least) == taken(scores, total, least));
  }
}

TEST_CASE("best rows: written out") {
  const Scores scores{{0.9F, 0.1F, 0.8F}, {0.5F, 0.4F}, {}, {0.7F}};
  using Counts = std::vector<uint64_t>;
  CHECK(found(scores, 0, 0) == Counts{0, 0, 0, 0});
  CHECK(found(scores, 3, 0) == Counts{2, 0, 0, 1});
  CHECK(found(scores, 3, 1) == Counts{1, 1, 0, 1});
  CHECK(found(scores, 4, 2) == Counts{2, 2, 0, 0});  // the first heads first
  CHECK(found(scores, 99, 2) == Counts{3, 2, 0, 1});
  CHECK(found({{0.5F, 0.5F}, {0.5F, 0.5F}}, 3, 0) == Counts{2, 1});
}

}  // namespace
}  // namespace kvmerger::budget
