// What queries get from a head, against plain double code.
#include "fit/response.h"

#include <doctest/doctest.h>

#include <cmath>

#include "fit/test_head.h"

namespace kvmerger::fit {
namespace {

constexpr uint32_t kDim = 12;

TEST_CASE("target: softmax over all rows with their biases, of three queries in four and of the fourth") {
  Rng rng(1);
  for (const uint32_t rows : {1U, 17U, 200U}) {
    for (const uint32_t queries : {4U, 5U, 31U}) {
      const TestHead source = random_head(rows, kDim, queries, rng);
      const kv::HeadView head = source.view();
      for (const bool held_out : {false, true}) {
        const Target target = fit::target(head, held_out ? Part::kHeldOut : Part::kFit);
        const std::vector<uint32_t> chosen = queries_of(head, held_out);
        REQUIRE(target.count == chosen.size());
        REQUIRE(target.dim == kDim);
        for (uint32_t at = 0; at < target.count; ++at) {
          const LiteralAnswer expected = literal_answer(head.query[chosen[at]], all_rows(head));
          CHECK(double{target.largest[at]} == doctest::Approx(expected.largest).epsilon(1e-4));
          CHECK(double{target.sum[at]} == doctest::Approx(expected.sum).epsilon(1e-4));
          for (uint32_t dim = 0; dim < kDim; ++dim) {
            CHECK(target.query[at * kDim + dim] == head.query[chosen[at]][dim]);
            CHECK(std::abs(double{target.output[at * kDim + dim]} - expected.output[dim]) < 1e-4);
          }
        }
      }
    }
  }
}

void check_survivors(const kv::HeadView& head, const kv::HeadPlan& plan) {
  const Survivors rows = survivors(head, plan);
  const LiteralRows expected = planned_rows(head, plan);
  REQUIRE(rows.count == plan.rows());
  REQUIRE(rows.value.size() == size_t{rows.count} * kDim);
  CHECK(rows.bias == plan.bias);
  for (uint32_t row = 0; row < rows.count; ++row) {
    for (uint32_t at = 0; at < kDim; ++at) {
      CHECK(std::abs(double{rows.key[row * kDim + at]} - expected.key[row][at]) < 1e-5);
      CHECK(std::abs(double{rows.value[row * kDim + at]} - expected.value[row][at]) < 1e-5);
    }
  }
}

// Dense values for every third row, stored in another order.
void add_dense_values(kv::HeadPlan& plan, Rng& rng) {
  int32_t dense = static_cast<int32_t>((plan.rows() + 2) / 3);
  plan.dense_value = random_normals(static_cast<size_t>(dense) * kDim, rng);
  for (uint32_t row = 0; row < plan.rows(); ++row) plan.dense.push_back(row % 3 == 0 ? --dense : -1);
}

TEST_CASE("survivors: kept, merged, and with dense values") {
  Rng rng(2);
  const TestHead source = random_head(100, kDim, 8, rng);
  const kv::HeadView head = source.view();
  check_survivors(head, eviction(head, 3));
  check_survivors(head, merging(head, 4));
  kv::HeadPlan plan = merging(head, 3);
  add_dense_values(plan, rng);
  check_survivors(head, plan);
}

TEST_CASE("attention: what rows would get from the full head, without their bias") {
  Rng rng(3);
  const TestHead source = random_head(90, kDim, 20, rng);
  const kv::HeadView head = source.view();
  for (const kv::HeadPlan& plan : {eviction(head, 2), merging(head, 3)}) {
    const LiteralRows rows = planned_rows(head, plan);
    const Target target = fit::target(head, Part::kFit);
    const std::vector<float> found = attention(target, survivors(head, plan));
    const std::vector<uint32_t> chosen = queries_of(head, false);
    REQUIRE(found.size() == chosen.size() * plan.rows());
    for (size_t at = 0; at < chosen.size(); ++at) {
      const LiteralAnswer full = literal_answer(head.query[chosen[at]], all_rows(head));
      const Doubles logits = literal_logits(head.query[chosen[at]], rows);
      for (uint32_t row = 0; row < plan.rows(); ++row) {
        const double expected = std::exp(logits[row] - full.largest) / full.sum;
        CHECK(double{found[at * plan.rows() + row]} == doctest::Approx(expected).epsilon(1e-4));
      }
    }
  }
}

TEST_CASE("predicted error: of kept, merged and dense rows, on the queries held out") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Rng rng(seed);
    const TestHead source = random_head(2 + rng.below(150), kDim, 4 + rng.below(60), rng);
    const kv::HeadView head = source.view();
    kv::HeadPlan dense = merging(head, 2);
    add_dense_values(dense, rng);
    for (const kv::HeadPlan& plan : {eviction(head, 2), eviction(head, 7), merging(head, 3), dense}) {
      if (is_identity(plan, head)) continue;
      CHECK(predicted_error(head, plan) == doctest::Approx(literal_error(head, plan, true)).epsilon(1e-3));
    }
  }
}

TEST_CASE("relative error: weights and values other than the plan's") {
  Rng rng(5);
  const TestHead source = random_head(60, kDim, 24, rng);
  const kv::HeadView head = source.view();
  const kv::HeadPlan plan = eviction(head, 3);
  kv::HeadPlan other = plan;
  std::vector<float> weight, value = random_normals(size_t{plan.rows()} * kDim, rng);
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    weight.push_back(0.5F + static_cast<float>(rng.uniform()));
    other.bias[row] = std::log(weight[row]);
    other.dense.push_back(static_cast<int32_t>(row));
  }
  other.dense_value = value;
  const Target target = fit::target(head, Part::kFit);
  const double found = relative_error(target, attention(target, survivors(head, plan)), weight, value);
  CHECK(found == doctest::Approx(literal_error(head, other, false)).epsilon(1e-3));
}

TEST_CASE("relative error: 0 for a plan that changes nothing, and for a head that answers nothing") {
  Rng rng(6);
  TestHead source = random_head(40, kDim, 16, rng);
  CHECK(predicted_error(source.view(), kv::keep_all(source.view())) == 0.0);
  // All rows kept, in a plan that says so otherwise: rounding is all that is left.
  kv::HeadPlan same = kv::keep_all(source.view());
  same.dense.assign(40, -1);
  same.dense[3] = 0;
  same.dense_value.assign(source.value.begin() + 3 * kDim, source.value.begin() + 4 * kDim);
  CHECK(predicted_error(source.view(), same) < 1e-9);
  source.value.assign(source.value.size(), 0.0F);
  CHECK(predicted_error(source.view(), eviction(source.view(), 4)) == 0.0);
}

TEST_CASE("rows that no query looks at any more answer nothing: the error is 1") {
  Rng rng(7);
  TestHead source = random_head(20, kDim, 8, rng);
  for (uint32_t row = 0; row < 20; ++row) source.bias[row] = row < 19 ? 0.0F : -1e6F;
  const kv::HeadView head = source.view();
  kv::HeadPlan plan;
  plan.keep(head, 19);
  CHECK(predicted_error(head, plan) == doctest::Approx(1.0));
}

}  // namespace
}  // namespace kvmerger::fit
