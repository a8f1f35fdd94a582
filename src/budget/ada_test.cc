// Ada-KV's shares against choosing rows layer by layer, and law 23 of its ends.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "budget/test_request.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

Request scored_request(uint32_t layers, uint32_t heads, uint32_t have, uint32_t per_head, Rng& rng) {
  Request request = budget::request(layers, heads, Rows(layers * heads, have), uint64_t{per_head} * layers * heads);
  for (uint32_t head = 0; head < layers * heads; ++head) {
    request.scores.push_back(random_scores(have, 1 + rng.below(6), rng));
  }
  return request;
}

// Rows of one layer's heads: the best of each that are safe, then the best of all.
Rows chosen(const Request& request, uint32_t layer, uint32_t per_head, uint32_t safe) {
  std::vector<std::pair<float, uint32_t>> others;
  for (uint32_t head = 0; head < request.heads; ++head) {
    std::vector<float> scores = request.scores[layer * request.heads + head];
    std::ranges::sort(scores, std::greater<>());
    for (size_t row = safe; row < scores.size(); ++row) others.emplace_back(scores[row], head);
  }
  std::ranges::sort(others, std::greater<>());
  Rows rows(request.heads, safe);
  for (uint32_t row = 0; row < request.heads * (per_head - safe); ++row) ++rows[others[row].second];
  return rows;
}

double kept_score(const Request& request, const Rows& rows) {
  double kept = 0.0;
  for (size_t head = 0; head < rows.size(); ++head) {
    std::vector<float> scores = request.scores[head];
    std::ranges::sort(scores, std::greater<>());
    for (uint32_t row = 0; row < rows[head]; ++row) kept += double{scores[row]};
  }
  return kept;
}

TEST_CASE("ada: as choosing the rows of each layer") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed);
    const uint32_t layers = 1 + rng.below(4), heads = 1 + rng.below(4), have = 100 + rng.below(100);
    const uint32_t per_head = 20 + rng.below(60), tenths = 1 + rng.below(10);
    const Request request = scored_request(layers, heads, have, per_head, rng);
    const Rows rows = make(cat("ada:alpha=", tenths / 10.0))->rows(request).rows;
    // tenths / 10 of per_head, in integers; in doubles it may fall short by a row
    for (uint32_t layer = 0; layer < layers; ++layer) {
      const auto first = rows.begin() + layer * heads;
      const Rows own(first, first + heads);
      const uint32_t safe = per_head * tenths / 10;
      CHECK((own == chosen(request, layer, per_head, safe) || own == chosen(request, layer, per_head, safe - 1)));
    }
  }
}

TEST_CASE("law 23: with alpha 1 ada is uniform, with alpha 0 it keeps at least the score of uniform") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed);
    const uint32_t layers = 1 + rng.below(4), heads = 1 + rng.below(4), per_head = 10 + rng.below(60);
    const Request request = scored_request(layers, heads, 100, per_head, rng);
    const Rows uniform = make("uniform")->rows(request).rows;
    CHECK(make("ada:alpha=1")->rows(request).rows == uniform);
    CHECK(kept_score(request, make("ada:alpha=0")->rows(request).rows) >= kept_score(request, uniform) * (1 - 1e-9));
  }
}

TEST_CASE("ada: layers share alike whatever their scores, heads that others would starve keep a fifth") {
  Request request = budget::request(2, 2, Rows(4, 200), 400);
  request.scores = {std::vector<float>(200, 0.9F), std::vector<float>(200, 0.1F), std::vector<float>(200, 0.01F),
                    std::vector<float>(200, 0.001F)};
  CHECK(make("ada")->rows(request).rows == Rows{180, 20, 180, 20});
}

TEST_CASE("ada: layers that stay whole have no part in it") {
  Request request = budget::request(3, 2, Rows(6, 100), 100 + 100 + 200, {0, 1, 0});
  request.scores.assign(6, std::vector<float>(100, 0.5F));
  request.scores[0].assign(100, 0.9F);
  request.scores[5].assign(100, 0.9F);
  CHECK(make("ada")->rows(request).rows == Rows{90, 10, 100, 100, 10, 90});
}

}  // namespace
}  // namespace kvmerger::budget
