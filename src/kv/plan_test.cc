#include "kv/plan.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "core/error.h"

namespace kvmerger::kv {
namespace {

constexpr uint32_t kDim = 3;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A layer whose heads have these numbers of rows; keys and values are 0, biases 0, 1, 2, ...
struct TestLayer {
  explicit TestLayer(const std::vector<uint32_t>& rows) : zeros(100 * kDim), ones(100, 1.0F) {
    for (int32_t row = 0; row < 100; ++row) {
      positions.push_back(10 * row);
      biases.push_back(static_cast<float>(row));
    }
    view.index = 7;
    view.count = 9;
    for (const uint32_t count : rows) {
      HeadView head;
      head.key = head.value = {zeros.data(), count, kDim};
      head.pos = std::span(positions).first(count);
      head.mass = std::span(ones).first(count);
      head.bias = std::span(biases).first(count);
      view.heads.push_back(head);
    }
  }

  std::vector<float> zeros, ones, biases;
  std::vector<int32_t> positions;
  LayerView view;
};

LayerPlan keep_everything(const LayerView& view) {
  LayerPlan plan;
  for (const HeadView& head : view.heads) plan.push_back(keep_all(head));
  return plan;
}

std::string complaint(const LayerPlan& plan, const LayerView& view) {
  try {
    validate(plan, view);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// What is said of a plan that keeps all rows but for one change to head 1, which has 5 rows.
std::string complaint_about(const std::function<void(HeadPlan&)>& change) {
  const TestLayer layer({2, 5});
  LayerPlan plan = keep_everything(layer.view);
  CHECK(complaint(plan, layer.view).empty());
  change(plan[1]);
  return complaint(plan, layer.view);
}

void check_says(const std::string& message, const std::vector<std::string>& parts) {
  INFO(message);
  CHECK(message.find("layer 7, head 1") != std::string::npos);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(message.find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("sums are stored row after row") {
  Sums sums;
  CHECK(sums.count() == 0);
  sums.add(Source{4, 0.5F});
  const Source two[] = {{1, 2.0F}, {3, -1.0F}};
  sums.add(two);
  REQUIRE(sums.count() == 2);
  CHECK(sums[0].size() == 1);
  CHECK(sums[0][0].row == 4);
  REQUIRE(sums[1].size() == 2);
  CHECK(sums[1][1].row == 3);
  CHECK(sums[1][1].weight == -1.0F);
}

TEST_CASE("keep_all and keep_rows keep rows with their biases") {
  const TestLayer layer({6});
  const HeadView& head = layer.view.heads[0];
  const HeadPlan all = keep_all(head);
  CHECK(is_identity(all, head));
  CHECK(all.pivot == std::vector<uint32_t>{0, 1, 2, 3, 4, 5});
  const std::vector<uint32_t> kept = {1, 4, 5};
  const HeadPlan some = keep_rows(head, kept);
  CHECK(some.pivot == kept);
  CHECK(some.bias == std::vector<float>{1, 4, 5});
  for (uint32_t row = 0; row < 3; ++row) {
    REQUIRE(some.key[row].size() == 1);
    REQUIRE(some.value[row].size() == 1);
    CHECK(some.key[row][0].row == kept[row]);
    CHECK(some.value[row][0].row == kept[row]);
    CHECK(some.key[row][0].weight == 1.0F);
    CHECK(some.value[row][0].weight == 1.0F);
  }
  CHECK_FALSE(is_identity(some, head));
  CHECK_NOTHROW(validate({some}, layer.view));
}

TEST_CASE("a plan is the identity only when nothing at all changes") {
  const TestLayer layer({4});
  const HeadView& head = layer.view.heads[0];
  const auto changed = [&](const std::function<void(HeadPlan&)>& change) {
    HeadPlan plan = keep_all(head);
    change(plan);
    return !is_identity(plan, head);
  };
  CHECK_FALSE(changed([](HeadPlan&) {}));
  CHECK_FALSE(changed([](HeadPlan& plan) { plan.dense = {-1, -1, -1, -1}; }));
  CHECK(changed([](HeadPlan& plan) { plan.bias[2] += 0.5F; }));
  CHECK(changed([](HeadPlan& plan) { plan.key.source[1].weight = 0.5F; }));
  CHECK(changed([](HeadPlan& plan) { plan.value.source[1].weight = 0.5F; }));
  CHECK(changed([](HeadPlan& plan) { plan.key.source[1].row = 0; }));
  CHECK(changed([](HeadPlan& plan) { plan.value.source[3].row = 0; }));
  CHECK(changed([](HeadPlan& plan) {
    plan.dense = {-1, 0, -1, -1};
    plan.dense_value = {1, 2, 3};
  }));
  CHECK(changed([](HeadPlan& plan) {
    plan.value.source.push_back({0, 0.0F});
    plan.value.begin.back() += 1;
  }));
  CHECK(is_identity(HeadPlan(), HeadView()));
}

TEST_CASE("validate accepts merging, dense values and empty heads") {
  const TestLayer layer({5, 0});
  HeadPlan plan;
  const Source sources[] = {{0, 0.25F}, {2, 0.75F}, {1, -1.0F}};
  plan.key.add(sources);
  plan.value.add(Source{0, 3.0F});
  plan.keep(layer.view.heads[0], 4);
  plan.bias.insert(plan.bias.begin(), 1.5F);
  plan.pivot.insert(plan.pivot.begin(), 2);
  plan.dense = {1, -1};
  plan.dense_value = {1, 2, 3, 4, 5, 6};
  CHECK_NOTHROW(validate({plan, HeadPlan()}, layer.view));
}

TEST_CASE("validate says which layer") {
  const TestLayer layer({2, 5});
  const std::string message = complaint({keep_all(layer.view.heads[0])}, layer.view);
  CHECK(message.find("layer 7: 1 heads, but the layer has 2") != std::string::npos);
}

TEST_CASE("each rule about sums, broken once") {
  check_says(complaint_about([](HeadPlan& plan) { plan.key.source.push_back({0, 1.0F}); }), {"key", "compressed-row"});
  check_says(complaint_about([](HeadPlan& plan) { plan.value.begin.front() = 1; }), {"value", "compressed-row"});
  check_says(complaint_about([](HeadPlan& plan) { plan.value.begin.clear(); }), {"value", "compressed-row"});
  check_says(complaint_about([](HeadPlan& plan) { plan.key.add(Source{1, 1.0F}); }),
             {"key sums for 6 rows", "5 pivots"});
  check_says(complaint_about([](HeadPlan& plan) { plan.value.add(Source{1, 1.0F}); }),
             {"value sums for 6 rows", "5 pivots"});
  check_says(complaint_about([](HeadPlan& plan) { plan.key.begin[2] = 3; }), {"row 2 has no key source"});
  check_says(complaint_about([](HeadPlan& plan) { plan.value.begin[4] = 5; }), {"row 4 has no value source"});
  check_says(complaint_about([](HeadPlan& plan) { plan.value.begin[1] = 9; }), {"row 1 has no value source"});
  check_says(complaint_about([](HeadPlan& plan) { plan.key.source[3].row = 5; }), {"row 3", "key source 5 of 5 rows"});
  check_says(complaint_about([](HeadPlan& plan) { plan.value.source[0].row = 1000; }),
             {"row 0", "value source 1000 of 5 rows"});
  check_says(complaint_about([](HeadPlan& plan) { plan.key.source[1].weight = kNan; }),
             {"row 1", "weight of key source 1 is not finite"});
  check_says(complaint_about([](HeadPlan& plan) { plan.value.source[2] = {4, -kInfinity}; }),
             {"row 2", "weight of value source 4 is not finite"});
}

TEST_CASE("each rule about dense values, broken once") {
  const std::vector<float> one_row = {1, 2, 3};
  const auto dense = [&](std::vector<int32_t> index, std::vector<float> values) {
    return complaint_about([&](HeadPlan& plan) {
      plan.dense = index;
      plan.dense_value = values;
    });
  };
  CHECK(dense({0, -1, -1, -1, 0}, one_row).empty());
  check_says(dense({0, -1, -1, -1}, one_row), {"dense", "per row"});
  check_says(dense({-1, -1, -1, 1, -1}, one_row), {"row 3", "dense value 1 is not there"});
  check_says(dense({-1, 0, -1, -1, -1}, {1, 2}), {"row 1", "dense value 0 is not there"});
  check_says(dense({-1, -1, -2, -1, -1}, one_row), {"row 2", "dense value -2 is not there"});
  check_says(dense({-1, -1, -1, -1, 0}, {1, kNan, 3}), {"row 4", "not finite"});
}

TEST_CASE("each rule about biases and pivots, broken once") {
  check_says(complaint_about([](HeadPlan& plan) { plan.bias.pop_back(); }), {"4 biases for 5 rows"});
  check_says(complaint_about([](HeadPlan& plan) { plan.bias[3] = kInfinity; }), {"bias of row 3 is not finite"});
  check_says(complaint_about([](HeadPlan& plan) { plan.bias[0] = kNan; }), {"bias of row 0 is not finite"});
  check_says(complaint_about([](HeadPlan& plan) { plan.pivot[4] = 5; }), {"row 4", "pivot 5 of 5 rows"});
  check_says(complaint_about([](HeadPlan& plan) { plan.pivot[2] = 1; }), {"pivots do not increase at row 2"});
  check_says(complaint_about([](HeadPlan& plan) { plan.pivot[2] = 0; }), {"pivots do not increase at row 2"});
}

TEST_CASE("the newest row stays, and a head with rows keeps one") {
  const TestLayer layer({2, 5});
  LayerPlan plan = keep_everything(layer.view);
  const std::vector<uint32_t> without_newest = {0, 3};
  plan[1] = keep_rows(layer.view.heads[1], without_newest);
  check_says(complaint(plan, layer.view), {"newest row"});
  plan[1] = HeadPlan();
  check_says(complaint(plan, layer.view), {"newest row"});
}

}  // namespace kvmerger::kv
