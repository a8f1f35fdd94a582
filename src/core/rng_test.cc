#include "core/rng.h"

#include <doctest/doctest.h>

#include <vector>

namespace kvmerger {
namespace {

TEST_CASE("the published SplitMix64 sequence of seed 1234567") {
  Rng rng(1234567);
  for (uint64_t expected : {6457827717110365317ULL, 3203168211198807973ULL, 9817491932198370423ULL,
                            4593380528125082431ULL, 16408922859458223821ULL}) {
    CHECK(rng.next() == expected);
  }
}

TEST_CASE("uniform: 53 bits of the next number, from 0 to 1") {
  Rng rng(1234567);
  CHECK(rng.uniform() == static_cast<double>(6457827717110365317ULL >> 11) / 9007199254740992.0);
  double sum = 0, square = 0;
  for (uint32_t draw = 0; draw < 100000; ++draw) {
    const double value = rng.uniform();
    REQUIRE((value >= 0.0 && value < 1.0));
    sum += value, square += value * value;
  }
  CHECK(sum / 1e5 == doctest::Approx(0.5).epsilon(0.01));
  CHECK(square / 1e5 == doctest::Approx(1.0 / 3).epsilon(0.01));
}

TEST_CASE("below: every number below the bound, equally often") {
  Rng rng(7);
  std::vector<uint32_t> counts(10);
  for (uint32_t draw = 0; draw < 100000; ++draw) {
    const uint32_t value = rng.below(10);
    REQUIRE(value < 10);
    ++counts[value];
  }
  for (uint32_t count : counts) CHECK(count == doctest::Approx(10000).epsilon(0.05));
  CHECK(rng.below(1) == 0);
}

}  // namespace
}  // namespace kvmerger
