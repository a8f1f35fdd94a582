// H2O against dropping one row at a time, and against a torch program.
#include <doctest/doctest.h>

#include "policy/test_heads.h"
#include "policy/test_vectors.h"

namespace kvmerger::policy {
namespace {

TEST_CASE("h2o: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    const auto score = [&](uint32_t row) { return head.attn_sum[row]; };
    const auto expected = [&](uint32_t sinks, uint32_t recent) {
      return evict_one_by_one(head.rows, budget, safe_rows(head.rows, budget, sinks, recent), score);
    };
    CHECK(kept_by("h2o", head, budget) == expected(0, budget / 2));
    CHECK(kept_by("h2o:recent=0.25,sinks=4", head, budget) == expected(4, budget / 4));
    CHECK(kept_by("h2o:recent=0", head, budget) == expected(0, 1));
  });
}

TEST_CASE("h2o: as the torch program") {
  Rng rng(1);
  TestHead head = random_head(vectors::kRows, vectors::kDim, rng);
  head.attn_sum = vectors::kAttnSum;
  CHECK(kept_by("h2o", head, vectors::kKept) == vectors::kH2oKept);
}

}  // namespace
}  // namespace kvmerger::policy
