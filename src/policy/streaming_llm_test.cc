// StreamingLLM against sets of rows written out, and against a torch program.
#include <doctest/doctest.h>

#include "policy/test_heads.h"
#include "policy/test_vectors.h"

namespace kvmerger::policy {
namespace {

TEST_CASE("streaming_llm: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    for (uint32_t sinks : {0U, 4U, 9U}) {
      const std::set<uint32_t> kept = safe_rows(head.rows, budget, sinks, head.rows);
      CHECK(kept_by(cat("streaming_llm:sinks=", sinks), head, budget) ==
            std::vector<uint32_t>(kept.begin(), kept.end()));
    }
  });
}

TEST_CASE("streaming_llm: as the torch program") {
  Rng rng(1);
  TestHead head = random_head(vectors::kRows, vectors::kDim, rng);
  CHECK(kept_by("streaming_llm", head, vectors::kKept) == vectors::kStreamingKept);
}

}  // namespace
}  // namespace kvmerger::policy
