// CaM against a literal second implementation; its random numbers by what they must do, not by their values.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "policy/test_heads.h"

namespace kvmerger::policy {
namespace {

struct Dropped {
  std::vector<uint32_t> followers;  // kept rows that share its value
  double chance;
};

// What becomes of each row that is not kept.
std::map<uint32_t, Dropped> dropped_rows(const TestHead& head, const std::vector<uint32_t>& kept, uint32_t m) {
  std::map<uint32_t, Dropped> dropped;
  for (uint32_t row = 0; row < head.rows; ++row) {
    if (std::ranges::count(kept, row)) continue;
    Dropped& one = dropped[row];
    double attention = 0;
    for (uint32_t other : kept) {
      if (other < row || one.followers.size() == m) continue;
      one.followers.push_back(other);
      attention += double{head.attn_sum[other]};
    }
    const double mean = attention / static_cast<double>(one.followers.size()), own = double{head.attn_sum[row]};
    one.chance = mean > 0 ? std::clamp(own / mean, 0.0, 1.0) : (own > 0 ? 1.0 : 0.0);
  }
  return dropped;
}

std::vector<ExpectedRow> literal_plan(const TestHead& head, const std::vector<uint32_t>& kept, uint32_t m) {
  std::map<uint32_t, ExpectedRow> rows;
  for (uint32_t row : kept) rows[row] = {row, {{row, 1.0}}, {{row, 1.0}}, double{head.bias[row]}};
  for (const auto& [row, dropped] : dropped_rows(head, kept, m)) {
    for (uint32_t follower : dropped.followers) {
      const double share = dropped.chance / static_cast<double>(dropped.followers.size());
      if (share > 0) rows[follower].value[row] = share;
    }
  }
  std::vector<ExpectedRow> plan;
  for (const auto& [row, made] : rows) plan.push_back(made);
  return plan;
}

TEST_CASE("cam: literal second implementation, with p as the weight") {
  for (uint64_t seed = 0; seed < 80; ++seed) {
    Rng rng(seed);
    const uint32_t n = 2 + rng.below(150), budget = 1 + rng.below(n - 1);
    TestHead head = rng.below(2) ? random_head(n, 4, rng) : merged_head(n, 4, rng);
    for (float& attention : head.attn_sum) attention *= static_cast<float>(rng.below(3) > 0);  // some receive none
    for (uint32_t m : {1U, 5U, 32U}) {
      for (const std::string base : {"h2o", "streaming_llm"}) {
        CAPTURE(seed);
        const std::string spec = cat("cam:mode=expected,base=", base, ",m=", m);
        CHECK(difference(plan_of(spec, head, {budget}), literal_plan(head, kept_by(base, head, budget), m)) == "");
      }
    }
  }
}

TEST_CASE("cam: the options of the base are its own") {
  Rng rng(1);
  const TestHead head = random_head(100, 4, rng);
  CHECK(kept_by("cam:base=streaming_llm,sinks=9", head, 30) == kept_by("streaming_llm:sinks=9", head, 30));
  CHECK(kept_by("cam:recent=0.1,sinks=2", head, 30) == kept_by("h2o:recent=0.1,sinks=2", head, 30));
  CHECK(difference(plan_of("cam:merge=off", head, {30}), plan_of("h2o", head, {30})) == "");
  CHECK_THROWS_AS(make("cam:base=streaming_llm,recent=0.5"), UsageError);
  CHECK(!make("cam:base=streaming_llm,merge=off")->needs().attn_sum);
}

// Whether the value of a dropped row was merged: into all its followers equally, or into none.
bool merged(const kv::HeadPlan& plan, uint32_t row, const Dropped& dropped) {
  uint32_t receivers = 0;
  for (uint32_t place = 0; place < plan.rows(); ++place) {
    for (const kv::Source& source : plan.value[place]) {
      if (source.row != row) continue;
      ++receivers;
      CHECK(std::ranges::count(dropped.followers, plan.pivot[place]) == 1);
      CHECK(near(double{source.weight}, 1.0 / static_cast<double>(dropped.followers.size())));
    }
  }
  CHECK((receivers == 0 || receivers == dropped.followers.size()));
  return receivers > 0;
}

TEST_CASE("cam: a row is merged as a whole or not at all, as often as its probability says") {
  Rng rng(3);
  const TestHead head = random_head(40, 4, rng);
  const uint32_t budget = 16, seeds = 400;
  const auto dropped = dropped_rows(head, kept_by("h2o", head, budget), 8);
  std::map<uint32_t, uint32_t> merges;
  for (uint32_t seed = 0; seed < seeds; ++seed) {
    const kv::HeadPlan plan = plan_of(cat("cam:m=8,seed=", seed), head, {budget});
    for (const auto& [row, one] : dropped) merges[row] += merged(plan, row, one);
  }
  for (const auto& [row, one] : dropped) {
    const double deviation = std::sqrt(one.chance * (1 - one.chance) / seeds);
    CHECK(std::abs(merges[row] / double{seeds} - one.chance) <= 4 * deviation);
  }
}

TEST_CASE("cam: heads that keep other rows draw other numbers, heads that keep the same draw the same") {
  Rng rng(5);
  std::vector<TestHead> heads(3, random_head(60, 4, rng));
  for (TestHead& head : heads) {
    for (uint32_t row = 0; row < 60; ++row) head.attn_sum[row] = row % 2 ? 1.0F : 0.5F;  // p is 0.5 for all dropped
  }
  std::swap(heads[1].attn_sum[57], heads[1].attn_sum[58]);  // keeps 58 in place of 57, the others alike
  const auto merges = [&](const TestHead& head) {
    const kv::HeadPlan plan = plan_of("cam:recent=0,m=1", head, {30});
    std::vector<uint32_t> rows;
    for (const kv::Source& source : plan.value.source) {
      if (source.row % 2 == 0 && source.row < 57) rows.push_back(source.row);
    }
    return rows;
  };
  CHECK(merges(heads[0]) != merges(heads[1]));
  CHECK(merges(heads[0]) == merges(heads[2]));
}

TEST_CASE("cam: merging everything keeps the sum of values and all kept keys") {
  Rng rng(4);
  TestHead head = random_head(60, 4, rng);
  std::ranges::fill(head.attn_sum, 0.5F);  // every p is 1
  for (const std::string mode : {"bernoulli", "expected"}) {
    const kv::HeadPlan plan = plan_of("cam:base=streaming_llm,mode=" + mode, head, {21});
    const std::vector<float> values = apply(plan.value, head.value, head.dim);
    for (uint32_t at = 0; at < head.dim; ++at) {
      double before = 0, after = 0;
      for (uint32_t row = 0; row < head.rows; ++row) before += double{head.value[row * head.dim + at]};
      for (uint32_t row = 0; row < plan.rows(); ++row) after += double{values[row * head.dim + at]};
      CHECK(after == doctest::Approx(before).epsilon(1e-4));
    }
    for (uint32_t row = 0; row < plan.rows(); ++row) {
      CHECK(near(plan.key[row], {{plan.pivot[row], 1.0}}));
    }
  }
}

}  // namespace
}  // namespace kvmerger::policy
