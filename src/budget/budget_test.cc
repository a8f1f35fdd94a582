// What every way to share rows out promises, and the table of them.
#include <doctest/doctest.h>

#include <algorithm>

#include "budget/test_request.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

// Heads of all lengths, some empty, some layers whole.
Request random_request(Rng& rng) {
  const uint32_t layers = 1 + rng.below(6), heads = 1 + rng.below(4);
  Request request = budget::request(layers, heads, {}, 0);
  for (uint32_t head = 0; head < layers * heads; ++head) request.have.push_back(rng.below(5) ? rng.below(2000) : 0);
  for (uint8_t& whole : request.whole) whole = rng.below(3) == 0;
  request.total = rng.below(static_cast<uint32_t>(sum(request.have)) * 5 / 4 + 2);
  for (const uint32_t have : request.have) request.scores.push_back(random_scores(have, 1, rng));
  return request;
}

void check_promises(const Request& request, const Result& result) {
  const auto used = request.have.size() - static_cast<size_t>(std::ranges::count(request.have, 0U));
  CHECK(sum(result.rows) == std::max<uint64_t>(std::min(request.total, sum(request.have)), used));
  for (uint32_t head = 0; head < request.have.size(); ++head) {
    const uint32_t have = request.have[head], rows = result.rows[head];
    CHECK(rows <= have);
    CHECK((rows >= 1 || have == 0));
    if (request.whole[head / request.heads] && result.note.empty()) CHECK(rows == have);
  }
}

TEST_CASE(
    "every budget of the table: the total is met exactly, within 1 .. have, whole layers keep all or it is said") {
  for (const Entry& entry : all()) {
    CAPTURE(entry.name);
    const auto budget = make(entry.name);
    for (uint64_t seed = 0; seed < 300; ++seed) {
      Rng rng(seed);
      Request request = random_request(rng);
      const Profile profile = random_profile(request, rng);
      request.profile = &profile;
      check_promises(request, budget->rows(request));
    }
  }
}

TEST_CASE("every budget of the table: the same again, and everything where everything fits") {
  for (const Entry& entry : all()) {
    CAPTURE(entry.name);
    Rng rng(7);
    Request request = random_request(rng);
    const Profile profile = random_profile(request, rng);
    request.profile = &profile;
    CHECK(make(entry.name)->rows(request).rows == make(entry.name)->rows(request).rows);
    request.total = sum(request.have);
    CHECK(make(entry.name)->rows(request).rows == request.have);
  }
}

TEST_CASE("every budget of the table: scores that tie everywhere, and empty texts") {
  for (const Entry& entry : all()) {
    CAPTURE(entry.name);
    Request request = budget::request(3, 2, {50, 50, 0, 1, 300, 20}, 90);
    for (const uint32_t have : request.have) request.scores.emplace_back(have, 0.25F);
    Profile profile = empty_profile(3, 2);
    profile.quantiles.resize(6);
    for (auto& entries : profile.quantiles) entries.fill(0.25F);
    request.profile = &profile;
    check_promises(request, make(entry.name)->rows(request));
    request.have.assign(6, 0);
    request.scores.assign(6, {});
    for (const uint64_t total : {0U, 10U}) {
      request.total = total;
      CHECK(make(entry.name)->rows(request).rows == Rows(6, 0));
    }
  }
}

TEST_CASE("the table: unknown names list the known") {
  CHECK_THROWS_WITH_AS(make("nonesuch"), doctest::Contains("uniform"), UsageError);
  CHECK_THROWS_AS(make("uniform:nonesuch=1"), UsageError);
  CHECK_THROWS_AS(make("ada:alpha=2"), UsageError);
  CHECK_THROWS_AS(make("profile:even=-1"), UsageError);
}

}  // namespace
}  // namespace kvmerger::budget
