// Rows by profile: one threshold for all heads, with profiles whose shares can be written down.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "budget/test_request.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

struct Wish {
  double floor, ends, boost;
};

double wished(const Line& line, double have, double log_threshold, const Wish& wish) {
  const double rows = wish.ends + std::min(1.0, wish.boost * line.share_above(log_threshold)) * (have - wish.ends);
  return std::min(std::max(rows, wish.floor), have);
}

// The water level, found by small steps from above and halving the last one.
std::vector<double> filled(const std::vector<Line>& lines, const Request& request, const Wish& wish) {
  const auto rows = [&](double log_threshold) {
    std::vector<double> rows;
    for (size_t head = 0; head < lines.size(); ++head) {
      rows.push_back(wished(lines[head], request.have[head], log_threshold, wish));
    }
    return rows;
  };
  const auto over = [&](double log_threshold) {
    const std::vector<double> all = rows(log_threshold);
    return std::accumulate(all.begin(), all.end(), 0.0) > static_cast<double>(request.total);
  };
  double level = 0.0;
  for (double step = 0.5; step > 1e-12; step /= 2) {
    while (!over(level - step) && level > -40) level -= step;
  }
  return rows(level);
}

std::vector<Line> random_lines(size_t heads, Rng& rng) {
  std::vector<Line> lines;
  while (lines.size() < heads) lines.push_back({rng.uniform() * 6, 1 + rng.uniform() * 12});
  return lines;
}

TEST_CASE("profile: one threshold for all heads, found by pouring") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    const uint32_t layers = 1 + rng.below(6), heads = 1 + rng.below(4), count = layers * heads;
    const std::vector<Line> lines = random_lines(count, rng);
    Rows have;
    while (have.size() < count) have.push_back(rng.below(2) ? 1000 : 60 + rng.below(2000));
    const uint64_t total = 60 * count + rng.below(static_cast<uint32_t>(sum(have)) - 60 * count);
    Request request = budget::request(layers, heads, have, total);
    const Profile profile = profile_of(layers, heads, lines);
    request.profile = &profile;
    const double even = rng.below(4) * 0.7, boost = 1 + rng.below(3) * 0.4, mean = static_cast<double>(total) / count;
    const double share = static_cast<double>(total) / static_cast<double>(sum(have));
    const double length = static_cast<double>(sum(have)) / count;
    const double floor = std::min(mean, even * share * share * std::min(length, std::sqrt(2048 * length)));
    const Rows rows = make(cat("profile:ends=10,even=", even, ",boost=", boost))->rows(request).rows;
    const std::vector<double> expected = filled(lines, request, {floor, 10, boost});
    for (uint32_t head = 0; head < count; ++head) CHECK(std::abs(rows[head] - expected[head]) < 1.01);
    CHECK(sum(rows) == total);
  }
}

TEST_CASE("profile: heads that need nothing keep the floor or the ends, the rest goes where it is needed") {
  const Profile profile = profile_of(1, 3, {{0.0, 3.0}, {15.0, 2.0}, {15.0, 2.0}});
  const auto rows = [&](const char* spec, uint64_t total) {
    Request request = budget::request(1, 3, Rows(3, 1000), total);
    request.profile = &profile;
    return make(spec)->rows(request).rows;
  };
  CHECK(rows("profile:even=1,ends=0", 600) == Rows{520, 40, 40});  // 20 % of 200
  CHECK(rows("profile:even=2.5,ends=0", 600) == Rows{400, 100, 100});
  CHECK(rows("profile:even=0,ends=50", 600) == Rows{500, 50, 50});
  CHECK(rows("profile:even=1,ends=50", 600) == Rows{500, 50, 50});
  CHECK(rows("profile:even=0,ends=0", 600) == Rows{598, 1, 1});
  CHECK(rows("profile:even=0,ends=0", 1400) == Rows{1000, 200, 200});
  CHECK(rows("profile:even=100,ends=0", 600) == Rows{200, 200, 200});
  CHECK(rows("profile:even=0", 60) == Rows{20, 20, 20});  // fewer than the ends of all heads: all alike
}

TEST_CASE("profile: without a floor more rows in all are no fewer for any head") {
  Rng rng(5);
  const std::vector<Line> lines = random_lines(12, rng);
  Rows have;
  while (have.size() < 12) have.push_back(100 + rng.below(900));
  const Profile profile = profile_of(4, 3, lines);
  Rows before(12, 0);
  for (uint64_t total = 12; total < sum(have); total += 37) {
    Request request = budget::request(4, 3, have, total);
    request.profile = &profile;
    const Rows rows = make("profile:even=0")->rows(request).rows;
    for (uint32_t head = 0; head < 12; ++head) CHECK(rows[head] + 1 >= before[head]);  // but for rounding
    before = rows;
  }
}

TEST_CASE("profile: in long texts the floor grows with the root of their length") {
  const Profile profile = profile_of(1, 3, {{0.0, 3.0}, {15.0, 2.0}, {15.0, 2.0}});
  Request request = budget::request(1, 3, Rows(3, 8192), 3 * 2048);
  request.profile = &profile;
  CHECK(make("profile:even=1,ends=0")->rows(request).rows == Rows{5632, 256, 256});  // 1/16 sqrt(2048 x 8192)
}

TEST_CASE("profile: heads shorter than the ends stay as they are") {
  const Profile profile = profile_of(1, 3, {{0.0, 3.0}, {0.0, 3.0}, {0.0, 3.0}});
  Request request = budget::request(1, 3, {1000, 20, 0}, 400);
  request.profile = &profile;
  CHECK(make("profile")->rows(request).rows == Rows{380, 20, 0});
}

}  // namespace
}  // namespace kvmerger::budget
