// The selection shared by the methods that only score.
#include "policy/score_policy.h"

#include <doctest/doctest.h>

namespace kvmerger::policy {
namespace {

using Kept = std::vector<uint32_t>;

TEST_CASE("a share of rows is rounded down as in rational arithmetic") {
  uint32_t wrong = 0;
  for (uint32_t percent = 0; percent <= 100; ++percent) {
    for (uint32_t n = 1; n <= 1000; ++n) wrong += share_rows(percent / 100.0, n) != percent * n / 100;
  }
  for (uint32_t millionths = 0; millionths <= 1000000; ++millionths) {
    wrong += share_rows(millionths / 1e6, 1000000) != millionths;
  }
  CHECK(wrong == 0);
  CHECK(share_rows(1.0, 4000000000U) == 4000000000U);
}

TEST_CASE("top rows: the best, ascending, ties to the lower index") {
  const std::vector<float> scores{1, 3, 3, 0, 3, 2};
  CHECK(top_rows(scores, 1) == Kept{1});
  CHECK(top_rows(scores, 2) == Kept{1, 2});
  CHECK(top_rows(scores, 4) == Kept{1, 2, 4, 5});
  CHECK(top_rows(scores, 6) == Kept{0, 1, 2, 3, 4, 5});
  CHECK(top_rows(scores, 0) == Kept{});
}

TEST_CASE("protection gives way in order: recent rows, then sinks, never the newest") {
  const auto fits = [](Protection wanted, uint32_t rows) {
    const Protection got = within(wanted, rows);
    return std::pair(got.sinks, got.recent);
  };
  CHECK(fits({4, 32}, 100) == std::pair(4U, 32U));
  CHECK(fits({4, 32}, 20) == std::pair(4U, 16U));
  CHECK(fits({4, 32}, 5) == std::pair(4U, 1U));
  CHECK(fits({4, 32}, 3) == std::pair(2U, 1U));
  CHECK(fits({4, 0}, 1) == std::pair(0U, 1U));
}

}  // namespace
}  // namespace kvmerger::policy
