// KVzip against dropping one row at a time.
#include <doctest/doctest.h>

#include "core/error.h"
#include "policy/test_heads.h"

namespace kvmerger::policy {
namespace {

TEST_CASE("kvzip: literal second implementation") {
  with_random_heads([](TestHead head, uint32_t budget) {
    if (budget % 3 == 0) {  // ties
      for (float& largest : head.attn_max) largest = largest < 0.3F ? 0.0F : 0.5F;
    }
    const auto expected = [&](uint32_t sinks, uint32_t recent) {
      const auto score = [&](uint32_t row) { return head.attn_max[row]; };
      return evict_one_by_one(head.rows, budget, safe_rows(head.rows, budget, sinks, recent), score);
    };
    CHECK(kept_by("kvzip", head, budget) == expected(4, 32));
    CHECK(kept_by("kvzip:sinks=0,recent=1", head, budget) == expected(0, 1));
  });
}

TEST_CASE("kvzip: asks for the reconstruction and nothing else, and misses it by name") {
  const auto policy = make("kvzip");
  CHECK(policy->needs().reconstruction);
  CHECK(!policy->needs().any_attention());
  CHECK(policy->needs().queries == 0);
  Rng rng(1);
  const TestHead head = random_head(50, 4, rng);
  const std::vector<uint32_t> limit{45};
  CHECK_THROWS_WITH_AS(policy->plan(layer_view({&head, 1}, {}), limit), doctest::Contains("reconstruction"), Error);
}

TEST_CASE("kvzip: scores for budgets are the largest attention, with the protected rows above all") {
  Rng rng(2);
  const TestHead head = random_head(60, 4, rng);
  const auto policy = make("kvzip:sinks=2,recent=3");
  const std::vector<float> scores = policy->row_scores(head.view(policy->needs()), 20);
  for (uint32_t row = 0; row < 60; ++row) {
    const bool safe = row < 2 || row >= 57;
    CHECK((safe ? std::isinf(scores[row]) : scores[row] == head.attn_max[row]));
  }
}

}  // namespace
}  // namespace kvmerger::policy
