// SnapKV against pooling written out over a padded copy, and against a torch program.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/error.h"
#include "policy/test_heads.h"
#include "policy/test_vectors.h"

namespace kvmerger::policy {
namespace {

// Scores of the rows older than the window, pooled over a copy with `reach` zeros on either side.
std::map<uint32_t, double> pooled(const TestHead& head, uint32_t window, uint32_t reach, bool max) {
  const uint32_t older = head.rows > window ? head.rows - window : 0;
  std::vector<double> padded(reach, 0.0);
  for (uint32_t row = 0; row < older; ++row) padded.push_back(double{head.attn_win[row]});
  padded.resize(padded.size() + reach, 0.0);
  std::map<uint32_t, double> scores;
  for (uint32_t row = 0; row < older; ++row) {
    double sum = 0, largest = 0;
    for (uint32_t at = row; at <= row + 2 * reach; ++at) sum += padded[at], largest = std::max(largest, padded[at]);
    scores[row] = double{static_cast<float>(max ? largest : sum)};
  }
  return scores;
}

TEST_CASE("snapkv: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    const auto expected = [&](uint32_t window, uint32_t kernel, bool max) {
      std::map<uint32_t, double> scores = pooled(head, window, kernel / 2, max);
      const auto score = [&](uint32_t row) { return scores[row]; };
      return evict_one_by_one(head.rows, budget, safe_rows(head.rows, budget, 0, window), score);
    };
    CHECK(kept_by("snapkv", head, budget) == expected(32, 7, false));
    CHECK(kept_by("snapkv:window=8,kernel=5,pool=max", head, budget) == expected(8, 5, true));
    CHECK(kept_by("snapkv:window=1,kernel=1", head, budget) == expected(1, 1, false));
  });
}

TEST_CASE("snapkv asks for attention of its window") {
  CHECK(make("snapkv")->needs().window == 32);
  CHECK(make("snapkv:window=48")->needs().window == 48);
  CHECK_THROWS_AS(make("snapkv:kernel=4"), UsageError);
}

TEST_CASE("snapkv: as the torch program") {
  Rng rng(1);
  TestHead head = random_head(vectors::kRows, vectors::kDim, rng);
  head.attn_win = vectors::kAttnWin;
  CHECK(kept_by("snapkv:window=4,kernel=5", head, vectors::kKept) == vectors::kSnapKept);
}

}  // namespace
}  // namespace kvmerger::policy
