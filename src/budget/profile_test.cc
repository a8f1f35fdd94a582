// Profiles against counting rows, and their files.
#include "budget/profile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "budget/test_request.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

double counted_above(const std::vector<float>& scores, double threshold) {
  const auto above = std::ranges::count_if(scores, [&](float score) { return double{score} > threshold; });
  return static_cast<double>(above) / static_cast<double>(scores.size());
}

Profile one_head(const std::vector<float>& scores) {
  Profile profile = empty_profile(1, 1);
  profile.quantiles.push_back(quantiles_of(scores));
  return profile;
}

// Between two entries all is guessed: their distance near this share, and a row for rounding.
double resolution(double share, size_t rows) {
  const double index = 63.0 * std::sqrt(share);
  return (2 * index + 3) / (63.0 * 63.0) + 1.5 / static_cast<double>(rows);
}

TEST_CASE("entries are scores of the rows at squares of equal steps") {
  std::vector<float> scores;
  for (int row = 0; row < 3970; ++row) scores.push_back(1.0F - static_cast<float>(row) / 4000);
  std::swap(scores[0], scores[2000]);  // any order
  const auto entries = quantiles_of(scores);
  CHECK(top_share(0) == 0.0);
  CHECK(top_share(63) == 1.0);
  for (uint32_t index = 0; index < kQuantiles; ++index) {  // 3969 = 63^2
    CHECK(top_share(index) == doctest::Approx(index * index / 3969.0));
    CHECK(entries[index] == 1.0F - static_cast<float>(index * index) / 4000);
  }
}

TEST_CASE("scores are held between 1e-9 and 1, and one row is enough") {
  for (const float entry : quantiles_of({0.0F})) CHECK(entry == 1e-9F);
  for (const float entry : quantiles_of({1.001F, 1.5F})) CHECK(entry == 1.0F);
  for (const float entry : quantiles_of({0.25F})) CHECK(entry == 0.25F);
}

TEST_CASE("the share above a threshold is that of the rows, counted, as far as the entries tell") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed);
    const std::vector<float> scores = random_scores(100 + rng.below(3000), 1 + rng.below(9), rng);
    const Profile profile = one_head(scores);
    double before = 1.0;
    for (double threshold = 1.1e-9; threshold < 1.5; threshold *= 1.3) {
      const double counted = counted_above(scores, threshold), found = profile.share_above(0, threshold);
      CHECK(std::abs(found - counted) <= resolution(std::max(found, counted), scores.size()));
      CHECK(found <= before);
      before = found;
    }
    CHECK(profile.share_above(0, 1.0) == 0.0);
    CHECK(profile.share_above(0, 1e-12) == 1.0);
  }
}

TEST_CASE("between entries the logarithm of the score is a line") {
  const Line line{0.5, 12.0};
  const Profile profile = profile_of(1, 1, {line});
  for (double share = 0.0; share <= 1.0; share += 0.0137) {
    CHECK(profile.share_above(0, std::exp(-0.5 - 12.0 * share)) == doctest::Approx(share).epsilon(1e-4));
  }
}

TEST_CASE("a profile of several heads: each its own") {
  const Profile profile = profile_of(1, 2, {{0.0, 10.0}, {2.0, 5.0}});
  CHECK(profile.share_above(0, std::exp(-4.0)) == doctest::Approx(0.4).epsilon(1e-4));
  CHECK(profile.share_above(1, std::exp(-4.0)) == doctest::Approx(0.4).epsilon(1e-4));
  CHECK(profile.share_above(0, std::exp(-3.0)) == doctest::Approx(0.3).epsilon(1e-4));
  CHECK(profile.share_above(1, std::exp(-3.0)) == doctest::Approx(0.2).epsilon(1e-4));
}

Profile some_profile() {
  Rng rng(3);
  Profile profile = random_profile(request(3, 2, Rows(6, 1), 0), rng);
  profile.fingerprint = "f00d";
  profile.name = "A \"model\"";
  profile.made = "by hand";
  return profile;
}

TEST_CASE("as JSON and back: four digits of every score, all else as it was") {
  const Profile profile = some_profile();
  const Profile back = profile_from_json(parse_json(dump_json(to_json(profile), -1)));
  CHECK(back.fingerprint == profile.fingerprint);
  CHECK(back.name == profile.name);
  CHECK(back.made == profile.made);
  CHECK(back.layers == 3);
  CHECK(back.heads == 2);
  REQUIRE(back.quantiles.size() == 6);
  for (size_t head = 0; head < 6; ++head) {
    for (uint32_t index = 0; index < kQuantiles; ++index) {
      const double was = double{profile.quantiles[head][index]};
      CHECK(std::abs(double{back.quantiles[head][index]} - was) <= 5.1e-4 * was);
    }
  }
  CHECK(profile_from_json(to_json(back)).quantiles == back.quantiles);
}

// The profile with one thing in it replaced.
Json changed(const std::string& key, const Json& value) {
  Json::Object members = *to_json(some_profile()).get<Json::Object>();
  for (auto& [name, member] : members) {
    if (name == key) member = value;
  }
  return members;
}

// With one score of the second head replaced.
Json with_score(uint32_t index, const Json& value) {
  Json::Array heads = to_json(some_profile()).at("scores").array(), scores = heads[1].array();
  scores[index] = value;
  heads[1] = scores;
  return changed("scores", heads);
}

TEST_CASE("profiles that are damaged are refused, with what is wrong") {
  const auto refused = [](const Json& json, const char* message) {
    CAPTURE(message);
    CHECK_THROWS_WITH_AS(profile_from_json(json), doctest::Contains(message), Error);
  };
  refused(Json::Object{}, "format");
  refused(changed("format", "kvmerger profile 0"), "kvmerger profile 1");
  refused(changed("format", 1), "");
  for (const char* key : {"model", "name", "made", "layers", "heads", "scores"}) refused(changed(key, Json()), "");
  refused(changed("layers", 4), "6 heads, not of 4 x 2");
  refused(changed("heads", 1), "6 heads, not of 3 x 1");
  refused(changed("layers", -3), "6 heads");
  Json::Array heads = to_json(some_profile()).at("scores").array();
  heads.pop_back();
  refused(changed("scores", heads), "5 heads, not of 3 x 2");
  heads.push_back(Json::Array{1.0, 0.5});
  refused(changed("scores", heads), "64 scores");
  refused(with_score(0, 1.5), "do not fall");
  refused(with_score(63, 0.0), "do not fall");
  refused(with_score(63, -0.1), "do not fall");
  refused(with_score(63, 1.0), "do not fall");
  refused(with_score(40, 1e-300), "do not fall");
  refused(with_score(40, "0.5"), "");
}

}  // namespace
}  // namespace kvmerger::budget
