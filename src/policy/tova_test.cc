// TOVA against dropping one row of a whole layer at a time, and against numpy.
#include <doctest/doctest.h>

#include "policy/test_rivals.h"

namespace kvmerger::policy {
namespace {

std::vector<std::vector<uint32_t>> kept_of_layer(const std::vector<TestHead>& heads,
                                                 const std::vector<uint32_t>& limits) {
  const auto policy = make("tova");
  std::vector<std::vector<uint32_t>> kept;
  for (const kv::HeadPlan& plan : policy->plan(layer_view(heads, policy->needs()), limits)) kept.push_back(plan.pivot);
  return kept;
}

TEST_CASE("tova: literal second implementation, one set of rows for the layer") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Rng rng(seed);
    const uint32_t n = 2 + rng.below(150), budget = 1 + rng.below(n - 1), count = 1 + rng.below(4);
    std::vector<TestHead> heads;
    for (uint32_t head = 0; head < count; ++head) heads.push_back(random_head(n, 4, rng));
    if (seed % 4 == 0) {  // ties
      for (TestHead& head : heads) std::ranges::fill(head.attn_win, 0.25F);
    }
    const auto mean = [&](uint32_t row) {
      double sum = 0;
      for (const TestHead& head : heads) sum += double{head.attn_win[row]};
      return static_cast<float>(sum / count);
    };
    const std::vector<uint32_t> expected = evict_one_by_one(n, budget, {n - 1}, mean);
    for (const auto& kept : kept_of_layer(heads, std::vector<uint32_t>(count, budget))) CHECK(kept == expected);
  }
}

TEST_CASE("tova: as numpy from the attention of the last query") {
  const std::vector<uint32_t> limits(rivals::kHeads, rivals::kKept);
  for (const auto& kept : kept_of_layer({rival_head(0), rival_head(1)}, limits)) CHECK(kept == rivals::kTovaKept);
}

TEST_CASE("tova: one order of rows for the layer, cut where each head must") {
  Rng rng(3);
  const std::vector<TestHead> heads{random_head(60, 4, rng), random_head(60, 4, rng), random_head(60, 4, rng)};
  const std::vector<uint32_t> twenty = kept_of_layer(heads, {20, 20, 20})[0],
                              more = kept_of_layer(heads, {35, 35, 35})[0];
  CHECK(twenty != kept_by("tova", heads[0], 20));
  const auto mixed = kept_of_layer(heads, {60, 20, 35});
  CHECK(mixed[0].size() == 60);
  CHECK(mixed[1] == twenty);
  CHECK(mixed[2] == more);
  CHECK(std::ranges::includes(more, twenty));
}

TEST_CASE("tova: heads that hold other tokens go by themselves") {
  Rng rng(4);
  std::vector<TestHead> heads{random_head(60, 4, rng), random_head(60, 4, rng)};
  const std::vector alone{kept_by("tova", heads[0], 20), kept_by("tova", heads[1], 20)};
  CHECK(alone[0] != alone[1]);
  CHECK(kept_of_layer(heads, {20, 20}) != alone);
  ++heads[1].pos.back();
  CHECK(kept_of_layer(heads, {20, 20}) == alone);
  heads[1] = random_head(30, 4, rng);
  CHECK(kept_of_layer(heads, {20, 20}) == std::vector{alone[0], kept_by("tova", heads[1], 20)});
}

TEST_CASE("tova asks for the attention of the last query") {
  CHECK(make("tova")->needs().window == 1);
  CHECK(!make("tova")->needs().attn_sum);
}

}  // namespace
}  // namespace kvmerger::policy
