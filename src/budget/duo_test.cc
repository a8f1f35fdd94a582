// Retrieval heads whole, the others a fixed number of rows.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "budget/test_request.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

TEST_CASE("duo: the heads that retrieve most are whole, one may be between, all others are local") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed);
    const uint32_t layers = 1 + rng.below(6), heads = 1 + rng.below(4), count = layers * heads;
    std::vector<Line> lines;
    while (lines.size() < count) lines.push_back({rng.uniform(), 5 + rng.uniform() * 12});
    const Profile profile = profile_of(layers, heads, lines);
    Request request = budget::request(layers, heads, Rows(count, 1000), (100 + rng.below(900)) * count);
    request.profile = &profile;
    const Rows rows = make("duo:local=64,threshold=0.02")->rows(request).rows;
    std::vector<uint32_t> order(count);
    for (uint32_t head = 0; head < count; ++head) order[head] = head;
    const auto retrieved = [&](uint32_t head) { return lines[head].share_above(std::log(0.02)); };
    std::ranges::sort(order, [&](uint32_t a, uint32_t b) { return retrieved(a) > retrieved(b); });
    const uint64_t whole = (request.total - 64 * count) / (1000 - 64);
    for (uint32_t rank = 0; rank < count; ++rank) {
      if (rank < whole) CHECK(rows[order[rank]] == 1000);
      if (rank > whole) CHECK(rows[order[rank]] == 64);
    }
    CHECK(sum(rows) == request.total);
  }
}

TEST_CASE("duo: written out") {
  const Profile profile = profile_of(1, 4, {{0.0, 8.0}, {0.0, 4.0}, {0.0, 6.0}, {5.0, 1.0}});
  const auto rows = [&](Rows have, uint64_t total) {
    Request request = budget::request(1, 4, std::move(have), total);
    request.profile = &profile;
    return make("duo:local=50")->rows(request).rows;
  };
  CHECK(rows(Rows(4, 500), 1100) == Rows{50, 500, 500, 50});
  CHECK(rows(Rows(4, 500), 700) == Rows{50, 500, 100, 50});
  CHECK(rows(Rows(4, 500), 200) == Rows{50, 50, 50, 50});
  CHECK(rows(Rows(4, 500), 120) == Rows{30, 30, 30, 30});          // fewer than `local` a head: all alike
  CHECK(rows({500, 20, 500, 500}, 620) == Rows{50, 20, 500, 50});  // what a short head leaves goes to the next
  CHECK(rows({500, 0, 500, 0}, 550) == Rows{50, 0, 500, 0});
}

}  // namespace
}  // namespace kvmerger::budget
