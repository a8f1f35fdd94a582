// PyramidKV's formula, written out.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "budget/test_request.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

TEST_CASE("pyramid: the line from 2 (C - w) - (C - w) / beta to (C - w) / beta, plus w") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed);
    const uint32_t layers = 2 + rng.below(30), heads = 1 + rng.below(4), mean = 40 + rng.below(500);
    const uint32_t window = rng.below(40), beta = 1 + rng.below(30);
    const auto budget = make(cat("pyramid:beta=", beta, ",window=", window));
    const Rows rows = budget->rows(request(layers, heads, Rows(layers * heads, 2000), mean * layers * heads)).rows;
    const double shared = mean - window, last = shared / beta, first = 2 * shared - last;
    for (uint32_t head = 0; head < layers * heads; ++head) {
      const double expected = window + first - head / heads * (first - last) / (layers - 1);
      CHECK(std::abs(rows[head] - expected) < 1.001);
      CHECK((head == 0 || rows[head] <= rows[head - 1] + 1));
    }
    CHECK(sum(rows) == uint64_t{mean} * layers * heads);
  }
}

TEST_CASE("pyramid: written out, default options") {
  // C 100, w 32: 68 / 20 = 3.4 and 136 - 3.4 = 132.6; steps of 129.2 / 3
  CHECK(make("pyramid")->rows(request(4, 1, Rows(4, 1000), 400)).rows == Rows{165, 122, 78, 35});
  // C below w: all alike
  CHECK(make("pyramid")->rows(request(4, 1, Rows(4, 1000), 80)).rows == Rows{20, 20, 20, 20});
  CHECK(make("pyramid:beta=1,window=0")->rows(request(3, 2, Rows(6, 1000), 600)).rows == Rows(6, 100));
  CHECK(make("pyramid")->rows(request(1, 2, {1000, 1000}, 300)).rows == Rows{150, 150});
}

TEST_CASE("pyramid: what the first layers cannot hold goes to the others, in proportion") {
  const Rows rows = make("pyramid")->rows(request(4, 1, {100, 1000, 1000, 1000}, 400)).rows;
  CHECK(rows[0] == 100);
  CHECK(sum(rows) == 400);
  const double factor = 300.0 / (121.533 + 78.467 + 35.4);
  CHECK(std::abs(rows[1] - 121.533 * factor) < 1.0);
  CHECK(std::abs(rows[3] - 35.4 * factor) < 1.0);
}

}  // namespace
}  // namespace kvmerger::budget
