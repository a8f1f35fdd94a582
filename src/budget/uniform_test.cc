// The uniform budget against dealing rows out one by one, and what every budget of the table promises.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "budget/budget.h"
#include "core/error.h"
#include "core/rng.h"

namespace kvmerger::budget {
namespace {

using Rows = std::vector<uint32_t>;

uint64_t sum(const Rows& rows) { return std::accumulate(rows.begin(), rows.end(), uint64_t{0}); }

Request request(uint32_t layers, uint32_t heads, Rows have, uint64_t total, std::vector<uint8_t> whole = {}) {
  whole.resize(layers, 0);
  Request request;
  request.layers = layers;
  request.heads = heads;
  request.have = std::move(have);
  request.whole = std::move(whole);
  request.total = total;
  return request;
}

Profile random_profile(const Request& request, Rng& rng) {
  Profile profile;
  profile.layers = request.layers;
  profile.heads = request.heads;
  for (size_t head = 0; head < request.have.size(); ++head) {
    std::vector<float> scores(1 + rng.below(300));
    for (float& score : scores) score = static_cast<float>(std::pow(rng.uniform(), 1 + rng.below(8)));
    profile.quantiles.push_back(quantiles_of(std::move(scores)));
  }
  return profile;
}

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

TEST_CASE(
    "every budget of the table: the total is met exactly, within 1 .. have, whole layers keep all or it is said") {
  for (const Entry& entry : all()) {
    CAPTURE(entry.name);
    const auto budget = make(entry.name);
    for (uint64_t seed = 0; seed < 300; ++seed) {
      Rng rng(seed);
      const uint32_t layers = 1 + rng.below(6), heads = 1 + rng.below(4);
      Request request = budget::request(layers, heads, {}, 0);
      for (uint32_t head = 0; head < layers * heads; ++head) request.have.push_back(rng.below(5) ? rng.below(2000) : 0);
      for (uint8_t& whole : request.whole) whole = rng.below(3) == 0;
      request.total = rng.below(static_cast<uint32_t>(sum(request.have)) * 5 / 4 + 2);
      const Profile profile = random_profile(request, rng);
      request.profile = &profile;
      for (const uint32_t have : request.have) {
        request.scores.emplace_back(have);
        for (float& score : request.scores.back()) score = static_cast<float>(rng.uniform());
      }
      const Result result = budget->rows(request);
      const auto used = layers * heads - std::ranges::count(request.have, 0U);
      CHECK(sum(result.rows) ==
            std::max<uint64_t>(std::min(request.total, sum(request.have)), static_cast<uint64_t>(used)));
      for (uint32_t head = 0; head < layers * heads; ++head) {
        const uint32_t have = request.have[head], rows = result.rows[head];
        CHECK(rows <= have);
        CHECK((rows >= 1 || have == 0));
        if (request.whole[head / heads] && result.note.empty()) CHECK(rows == have);
      }
    }
  }
}

TEST_CASE("the table: unknown names list the known") {
  CHECK_THROWS_WITH_AS(make("nonesuch"), doctest::Contains("uniform"), UsageError);
  CHECK_THROWS_AS(make("uniform:nonesuch=1"), UsageError);
}

}  // namespace
}  // namespace kvmerger::budget
