// The uniform budget against dealing rows out one by one, and layers that are left whole.
#include <doctest/doctest.h>

#include "budget/test_request.h"

namespace kvmerger::budget {
namespace {

// One row each, then a row at a time to the head with the fewest that can take more; of equals the first.
Rows deal(const Rows& have, uint64_t total) {
  Rows rows(have.size());
  for (size_t head = 0; head < have.size(); ++head) rows[head] = have[head] > 0;
  while (sum(rows) < total) {
    size_t next = have.size();
    for (size_t head = 0; head < have.size(); ++head) {
      if (rows[head] < have[head] && (next == have.size() || rows[head] < rows[next])) next = head;
    }
    if (next == have.size()) break;
    ++rows[next];
  }
  return rows;
}

TEST_CASE("uniform: as dealing rows out one by one") {
  const auto uniform = make("uniform");
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    const uint32_t layers = 1 + rng.below(4), heads = 1 + rng.below(3);
    Rows have;
    for (uint32_t head = 0; head < layers * heads; ++head)
      have.push_back(rng.below(4) ? 20 + rng.below(100) : rng.below(9));
    const uint64_t total = rng.below(static_cast<uint32_t>(sum(have)) + 20);
    const Result result = uniform->rows(request(layers, heads, have, total));
    CHECK(result.rows == deal(have, total));
    CHECK(result.note == "");
  }
}

TEST_CASE("uniform: written out") {
  const auto rows = [](Rows have, uint64_t total) {
    const uint32_t heads = static_cast<uint32_t>(have.size());
    return make("uniform")->rows(request(1, heads, std::move(have), total)).rows;
  };
  CHECK(rows({100, 100, 100}, 150) == Rows{50, 50, 50});
  CHECK(rows({100, 100, 100}, 152) == Rows{51, 51, 50});
  CHECK(rows({100, 10, 100}, 150) == Rows{70, 10, 70});
  CHECK(rows({100, 0, 100}, 150) == Rows{75, 0, 75});
  CHECK(rows({5, 5}, 100) == Rows{5, 5});
  CHECK(rows({5, 5, 5}, 1) == Rows{1, 1, 1});
}

TEST_CASE("layers left whole keep all, the others share the rest") {
  const Rows have(12, 100);  // 4 layers x 3 heads
  const Result result = make("uniform")->rows(request(4, 3, have, 700, {1, 0, 0, 1}));
  CHECK(result.rows == Rows{100, 100, 100, 17, 17, 17, 17, 16, 16, 100, 100, 100});
  CHECK(sum(result.rows) == 700);
  CHECK(result.note == "");
}

TEST_CASE("layers are not left whole when the others had fewer than 8 rows a head, the note names them") {
  const Rows have(12, 100);
  const auto uniform = make("uniform");
  const std::vector<uint8_t> whole{1, 0, 0, 1};
  CHECK(uniform->rows(request(4, 3, have, 648, whole)).note == "");
  const Result result = uniform->rows(request(4, 3, have, 647, whole));
  CHECK(result.rows == deal(have, 647));
  CHECK(result.note.find("layers 0, 3") != std::string::npos);
  CHECK(uniform->rows(request(4, 3, have, 300, whole)).rows == Rows(12, 25));
}

TEST_CASE("whole layers: heads with fewer than 8 rows do not ask for 8, everything fits at the full total") {
  const auto uniform = make("uniform");
  const Rows have{50, 3, 3, 40};
  CHECK(uniform->rows(request(4, 1, have, 96, {1, 0, 0, 1})).note == "");
  const Result below = uniform->rows(request(4, 1, have, 95, {1, 0, 0, 1}));
  CHECK(sum(below.rows) == 95);
  CHECK(below.note != "");
  const Result all_whole = uniform->rows(request(2, 1, {30, 30}, 20, {1, 1}));
  CHECK(all_whole.rows == Rows{10, 10});
  CHECK(all_whole.note != "");
}

}  // namespace
}  // namespace kvmerger::budget
