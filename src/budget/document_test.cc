// Rows by this text's reconstruction scores, against sorting all rows of the model.
#include <doctest/doctest.h>

#include <algorithm>

#include "budget/test_request.h"

namespace kvmerger::budget {
namespace {

// The best rows of each head that are safe, then the best of all heads of all layers. Scores must differ.
Rows sorted_out(const Request& request, const std::vector<uint32_t>& heads, uint64_t total, uint32_t least) {
  std::vector<std::pair<float, uint32_t>> all;
  Rows rows(request.have.size());
  for (const uint32_t head : heads) {
    std::vector<float> scores = request.scores[head];
    std::ranges::sort(scores, std::greater<>());
    rows[head] = std::min(least, request.have[head]);
    total -= rows[head];
    for (size_t row = rows[head]; row < scores.size(); ++row) all.emplace_back(scores[row], head);
  }
  std::ranges::sort(all, std::greater<>());
  for (uint64_t row = 0; row < total; ++row) ++rows[all[row].second];
  return rows;
}

TEST_CASE("document: as sorting all rows") {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Rng rng(seed);
    const uint32_t layers = 1 + rng.below(6), heads = 1 + rng.below(4);
    Request request = budget::request(layers, heads, {}, 0);
    std::vector<uint32_t> everyone;
    for (uint32_t head = 0; head < layers * heads; ++head) {
      request.have.push_back(50 + rng.below(500));
      request.scores.push_back(random_scores(request.have.back(), 1 + rng.below(8), rng));
      everyone.push_back(head);
    }
    request.total = 45 * layers * heads + rng.below(static_cast<uint32_t>(sum(request.have)) - 45 * layers * heads);
    CHECK(make("document:even=0")->rows(request).rows == sorted_out(request, everyone, request.total, 40));
    CHECK(make("document:even=0,least=7")->rows(request).rows == sorted_out(request, everyone, request.total, 7));
  }
}

TEST_CASE("document: a mean below `least` is everyone's") {
  Request request = budget::request(1, 3, Rows(3, 100), 60);
  request.scores = {std::vector<float>(100, 0.9F), std::vector<float>(100, 0.5F), std::vector<float>(100, 0.1F)};
  CHECK(make("document")->rows(request).rows == Rows{20, 20, 20});
  CHECK(make("document:even=0,least=5")->rows(request).rows == Rows{50, 5, 5});
}

TEST_CASE("document: the floor is a part of equal rows, over the share of all that stay") {
  Request request = budget::request(1, 3, Rows(3, 1000), 1500);  // half of all, 500 each
  for (const float score : {0.9F, 0.5F, 0.1F}) request.scores.emplace_back(1000, score);
  CHECK(make("document:even=0.5")->rows(request).rows == Rows{1000, 375, 125});
  CHECK(make("document:even=1")->rows(request).rows == Rows{1000, 250, 250});
  CHECK(make("document:even=1.5")->rows(request).rows == Rows{750, 375, 375});
  CHECK(make("document:even=100")->rows(request).rows == Rows{500, 500, 500});
}

TEST_CASE("document: whole layers stay whole, the others are sorted among themselves") {
  Rng rng(1);
  Request request = budget::request(3, 2, Rows(6, 300), 900, {0, 1, 0});
  for (uint32_t head = 0; head < 6; ++head) request.scores.push_back(random_scores(300, 1 + head, rng));
  Rows expected = sorted_out(request, {0, 1, 4, 5}, 300, 10);
  expected[2] = expected[3] = 300;
  CHECK(make("document:even=0,least=10")->rows(request).rows == expected);
}

}  // namespace
}  // namespace kvmerger::budget
