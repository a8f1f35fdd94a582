#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <string>

#include "core/error.h"
#include "kv/store.h"
#include "kv/test_store.h"

namespace kvmerger::kv {
namespace {

constexpr uint32_t kDim = 20;

StoreShape shape_of(RowType key, RowType value) {
  return {.layers = 2, .heads = 3, .head_dim = kDim, .key_type = key, .value_type = value, .stats = {true, true, true}};
}

// ---- A second implementation: rows as numbers, a plan taken literally ----

struct Row {
  std::vector<double> key, value;
  int32_t pos = 0;
  double bias = 0, mass = 0, sum = 0, win = 0, max = 0;
};
using Head = std::vector<Row>;

Head rows_of(const HeadView& view) {
  Head head(view.rows());
  for (uint32_t row = 0; row < view.rows(); ++row) {
    head[row].key.assign(view.key[row].begin(), view.key[row].end());
    head[row].value.assign(view.value[row].begin(), view.value[row].end());
    head[row].pos = view.pos[row];
    head[row].bias = static_cast<double>(view.bias[row]);
    head[row].mass = static_cast<double>(view.mass[row]);
    head[row].sum = static_cast<double>(view.attn_sum[row]);
    head[row].win = static_cast<double>(view.attn_win[row]);
    head[row].max = static_cast<double>(view.attn_max[row]);
  }
  return head;
}

Row planned_row(const Head& old, const HeadPlan& plan, uint32_t row) {
  Row made;
  made.key.resize(kDim);
  made.value.resize(kDim);
  made.max = -1e30;
  for (const auto& [from, weight] : plan.key[row]) {
    for (uint32_t dim = 0; dim < kDim; ++dim) made.key[dim] += static_cast<double>(weight) * old[from].key[dim];
    made.mass += old[from].mass;
    made.sum += old[from].sum;
    made.win += old[from].win;
    made.max = std::max(made.max, old[from].max);
  }
  for (const auto& [from, weight] : plan.value[row]) {
    for (uint32_t dim = 0; dim < kDim; ++dim) made.value[dim] += static_cast<double>(weight) * old[from].value[dim];
  }
  if (!plan.dense.empty() && plan.dense[row] != -1) {
    const float* dense = &plan.dense_value[static_cast<size_t>(plan.dense[row]) * kDim];
    made.value.assign(dense, dense + kDim);
  }
  made.pos = old[plan.pivot[row]].pos;
  made.bias = static_cast<double>(plan.bias[row]);
  return made;
}

Head planned(const Head& old, const HeadPlan& plan) {
  Head head;
  for (uint32_t row = 0; row < plan.pivot.size(); ++row) head.push_back(planned_row(old, plan, row));
  return head;
}

// How far a stored number may be from the true one: 1e-6, or half a step of f16 (2^-11, 2^-25 below 2^-14).
double allowed(double truth, RowType type) {
  if (type == RowType::kF32) return 1e-6 * std::max(1.0, std::abs(truth));
  return std::max(std::abs(truth) * 0x1.0p-11, 0x1.0p-25) * (1 + 1e-6) + 1e-7 * std::abs(truth);
}

// q8_0: half a step, which is 1/127 of the largest of the block, and what f16 does to the step times up to 127 steps.
double allowed_in_block(const std::vector<double>& truth, size_t dim) {
  const size_t first = dim / 32 * 32, last = std::min(first + 32, truth.size());
  double largest = 0;
  for (size_t at = first; at < last; ++at) largest = std::max(largest, std::abs(truth[at]));
  return largest / 127 * (0.5 + 0x1.0p-11 * 128);
}

void check_near(const std::vector<double>& got, const std::vector<double>& truth, RowType type) {
  REQUIRE(got.size() == truth.size());
  for (size_t dim = 0; dim < got.size(); ++dim) {
    const double most = type == RowType::kQ8 ? allowed_in_block(truth, dim) : allowed(truth[dim], type);
    CHECK(std::abs(got[dim] - truth[dim]) <= most);
  }
}

void check_head(const Head& got, const Head& truth, const StoreShape& shape) {
  REQUIRE(got.size() == truth.size());
  for (size_t row = 0; row < got.size(); ++row) {
    CAPTURE(row);
    check_near(got[row].key, truth[row].key, shape.key_type);
    check_near(got[row].value, truth[row].value, shape.value_type);
    CHECK(got[row].pos == truth[row].pos);
    CHECK(got[row].bias == truth[row].bias);
    CHECK(got[row].mass == truth[row].mass);
    CHECK(std::abs(got[row].sum - truth[row].sum) <= 1e-5);
    CHECK(std::abs(got[row].win - truth[row].win) <= 1e-5);
    CHECK(got[row].max == truth[row].max);
  }
}

// ---- Random plans ----

void add_random_sources(Sums& sums, Rng& rng, uint32_t rows) {
  std::vector<Source> sources(1 + rng.below(5));
  for (Source& source : sources) source = {rng.below(rows), static_cast<float>(rng.uniform() * 3 - 1.5)};
  sums.add(sources);
}

// Some rows kept, the others random sums; one in five with a dense value.
HeadPlan random_plan(const HeadView& head, Rng& rng) {
  HeadPlan plan;
  for (uint32_t row = 0; row < head.rows(); ++row) {
    const bool newest = row + 1 == head.rows();
    if (!newest && rng.uniform() < 0.4) continue;
    if (rng.uniform() < 0.3) {
      plan.keep(head, row);
    } else {
      add_random_sources(plan.key, rng, head.rows());
      add_random_sources(plan.value, rng, head.rows());
      plan.bias.push_back(static_cast<float>(rng.uniform() * 4 - 2));
      plan.pivot.push_back(row);
    }
    const bool dense = rng.uniform() < 0.2;
    plan.dense.push_back(dense ? static_cast<int32_t>(plan.dense_value.size() / kDim) : -1);
    if (!dense) continue;
    const std::vector<float> value = random_values(rng, kDim);
    plan.dense_value.insert(plan.dense_value.end(), value.begin(), value.end());
  }
  return plan;
}

LayerPlan random_layer_plan(const LayerView& view, Rng& rng) {
  LayerPlan plan;
  for (const HeadView& head : view.heads) plan.push_back(random_plan(head, rng));
  return plan;
}

Store filled(const StoreShape& shape, uint64_t seed, uint32_t rows = 53) {
  Store store(shape);
  Rng rng(seed);
  append_everywhere(store, rng, rows, 0);
  return store;
}

std::string apply_error(Store& store, uint32_t layer, const LayerPlan& plan) {
  try {
    store.apply(layer, plan);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void check_bit_equal(std::span<const float> left, std::span<const float> right) {
  REQUIRE(left.size() == right.size());
  for (size_t dim = 0; dim < left.size(); ++dim) {
    CHECK(std::bit_cast<uint32_t>(left[dim]) == std::bit_cast<uint32_t>(right[dim]));
  }
}

}  // namespace

TEST_CASE("apply: random plans, one after the other, agree with plain arithmetic") {
  for (const RowType key : {RowType::kF32, RowType::kF16, RowType::kQ8}) {
    for (const RowType value : {RowType::kF32, RowType::kF16, RowType::kQ8}) {
      const StoreShape shape = shape_of(key, value);
      for (uint64_t seed = 0; seed < 5; ++seed) {
        Store store = filled(shape, seed);
        Rng rng(100 + seed);
        for (uint32_t round = 0; round < 3; ++round) {
          const Store::LayerData before = store.view(1), other = store.view(0);
          const LayerPlan plan = random_layer_plan(before.view, rng);
          store.apply(1, plan);
          const Store::LayerData after = store.view(1), same = store.view(0);
          for (uint32_t head = 0; head < shape.heads; ++head) {
            check_head(rows_of(after.view.heads[head]), planned(rows_of(before.view.heads[head]), plan[head]), shape);
            check_head(rows_of(same.view.heads[head]), rows_of(other.view.heads[head]), shape);
          }
          CHECK(store.bytes().used == bytes_of_rows(store));
        }
      }
    }
  }
}

TEST_CASE("apply: mass and sums are those of the key's sources, maxima their largest") {
  StoreShape shape = shape_of(RowType::kF32, RowType::kF32);
  shape.layers = shape.heads = 1;
  Store store = filled(shape, 1, 0);
  Rng rng(1);
  store.reserve(5);
  append_random(store, rng, 0, 0, 5, 0);
  store.add_stat(0, 0, Stat::kSum, std::vector<float>{1, 2, 4, 8, 16});
  store.add_stat(0, 0, Stat::kWindow, std::vector<float>{0.5F, 0, 0.25F, 0, 1});
  store.add_stat(0, 0, Stat::kMax, std::vector<float>{0.1F, 0.7F, 0.3F, 0.2F, 0.4F});
  for (uint32_t round = 0; round < 2; ++round) {
    const Store::LayerData data = store.view(0);
    HeadPlan plan;
    const Source keys[] = {{0, 0.5F}, {1, 0.25F}, {2, 0.25F}};
    plan.key.add(keys);
    plan.value.add(Source{3, 1.0F});  // lends its value, no mass
    plan.bias = {2};
    plan.pivot = {1};
    for (uint32_t row = 3; row < data.view.heads[0].rows(); ++row) plan.keep(data.view.heads[0], row);
    store.apply(0, {plan});
    store.reserve(2);
    if (round == 0) append_random(store, rng, 0, 0, 2, 5);
  }
  // Round 1: (0 1 2) 3 4, then 5 6 appended. Round 2: ((0 1 2) 3 4) 5 6.
  const Store::LayerData data = store.view(0);
  const HeadView& head = data.view.heads[0];
  REQUIRE(head.rows() == 3);
  CHECK(head.mass[0] == 5.0F);
  CHECK(head.mass[1] == 1.0F);
  CHECK(head.attn_sum[0] == 31.0F);
  CHECK(head.attn_win[0] == 1.75F);
  CHECK(head.attn_max[0] == 0.7F);
  CHECK(head.attn_max[1] == 0.0F);
  CHECK(head.pos[0] == 3);
  CHECK(head.pos[2] == 6);
  CHECK(head.bias[0] == 2.0F);
}

TEST_CASE("apply: kept rows are equal bit by bit, whatever becomes of the others") {
  for (const RowType type : {RowType::kF32, RowType::kF16, RowType::kQ8}) {
    Store store = filled(shape_of(type, type), 2);
    Rng rng(2);
    const Store::LayerData before = store.view(0);
    const LayerPlan plan = random_eviction(before.view, rng, 0.4);
    store.apply(0, plan);
    const Store::LayerData after = store.view(0);
    for (uint32_t index = 0; index < 3; ++index) {
      const HeadView &old = before.view.heads[index], &head = after.view.heads[index];
      REQUIRE(head.rows() == plan[index].rows());
      for (uint32_t row = 0; row < head.rows(); ++row) {
        const uint32_t from = plan[index].pivot[row];
        check_bit_equal(head.key[row], old.key[from]);
        check_bit_equal(head.value[row], old.value[from]);
        CHECK(head.pos[row] == old.pos[from]);
        CHECK(head.mass[row] == 1.0F);
        CHECK(head.attn_sum[row] == old.attn_sum[from]);
        CHECK(head.attn_win[row] == old.attn_win[from]);
        CHECK(head.attn_max[row] == old.attn_max[from]);
      }
    }
  }
}

TEST_CASE("apply: a single source of weight 1 keeps every bit, also when the other part of the row is a sum") {
  for (const RowType type : {RowType::kF32, RowType::kF16}) {
    StoreShape shape = shape_of(type, type);
    shape.layers = shape.heads = 1;
    Store store(shape);
    Rng rng(3);
    std::vector<float> key = random_values(rng, 4 * kDim), value = random_values(rng, 4 * kDim);
    for (const uint32_t dim : {0U, 7U, 33U}) key[dim] = value[dim] = -0.0F;
    key[1] = value[1] = 6e-8F;  // a subnormal of f16
    key[2] = value[2] = 1e9F;   // held at the largest f16
    store.reserve(4);
    store.append(0, 0, 4, key.data(), value.data(), kDim, 0);
    const Store::LayerData before = store.view(0);
    const HeadView& old = before.view.heads[0];
    const Source pair[] = {{0, 0.5F}, {1, 0.5F}};
    HeadPlan plan;  // row 0: key kept, row 1: value kept, row 2: a kept row that lends another one's position
    plan.key.add(Source{0, 1.0F});
    plan.value.add(pair);
    plan.key.add(pair);
    plan.value.add(Source{1, 1.0F});
    plan.key.add(Source{0, 1.0F});
    plan.value.add(Source{0, 1.0F});
    plan.bias = {0, 1, 2};
    plan.pivot = {0, 1, 2};
    plan.keep(old, 3);
    store.apply(0, {plan});
    const Store::LayerData after = store.view(0);
    const HeadView& head = after.view.heads[0];
    check_bit_equal(head.key[0], old.key[0]);
    check_bit_equal(head.value[1], old.value[1]);
    check_bit_equal(head.key[2], old.key[0]);
    check_bit_equal(head.value[2], old.value[0]);
    CHECK(head.pos[2] == 2);
    check_bit_equal(head.key[3], old.key[3]);
  }
}

TEST_CASE("apply: the identity leaves every byte and every page where it is") {
  for (const RowType type : {RowType::kF32, RowType::kF16}) {
    Store store = filled(shape_of(type, type), 4);
    Rng rng(4);
    store.apply(0, random_layer_plan(store.view(0).view, rng));
    const std::vector<std::byte> before = saved(store);
    const size_t peak = store.bytes().peak;
    const std::byte* key = store.head(0, 1).pages[0].key;
    for (uint32_t layer = 0; layer < 2; ++layer) {
      LayerPlan plan;
      const Store::LayerData data = store.view(layer);
      for (const HeadView& head : data.view.heads) plan.push_back(keep_all(head));
      store.apply(layer, plan);
    }
    CHECK(saved(store) == before);
    CHECK(store.head(0, 1).pages[0].key == key);
    CHECK(store.bytes().peak == peak);
  }
}

TEST_CASE("apply: heads that a plan keeps whole are not touched") {
  Store store = filled(shape_of(RowType::kF16, RowType::kF16), 5);
  Rng rng(5);
  const std::byte *first = store.head(0, 0).pages[0].key, *second = store.head(0, 1).pages[0].key;
  const Store::LayerData data = store.view(0);
  LayerPlan plan = random_eviction(data.view, rng, 0.5);
  plan[0] = keep_all(data.view.heads[0]);
  store.apply(0, plan);
  CHECK(store.head(0, 0).pages[0].key == first);
  CHECK(store.head(0, 1).pages[0].key != second);
}

TEST_CASE("apply: pages without a bias say so, and those with one give it to the kernels") {
  Store store = filled(shape_of(RowType::kF16, RowType::kF16), 6, 40);
  const Store::LayerData data = store.view(0);
  LayerPlan plan;
  for (const HeadView& head : data.view.heads) plan.push_back(keep_all(head));
  plan[1].bias[20] = 0.75F;
  store.apply(0, plan);
  const kernels::HeadRows head = store.head(0, 1);
  CHECK(head.pages[0].bias == nullptr);
  REQUIRE(head.pages[1].bias != nullptr);
  CHECK(head.pages[1].bias[4] == 0.75F);
  CHECK(std::count(head.pages[1].bias, head.pages[1].bias + 16, 0.0F) == 15);
  CHECK(head.pages[2].bias == nullptr);
  CHECK(store.head(0, 0).pages[1].bias == nullptr);
}

TEST_CASE("apply: ragged heads are appended to and seen as one") {
  for (const RowType type : {RowType::kF32, RowType::kF16}) {
    const StoreShape shape = shape_of(type, type);
    Store store = filled(shape, 7);
    Rng rng(7);
    store.apply(1, random_layer_plan(store.view(1).view, rng));
    const Store::LayerData before = store.view(1);
    std::set<uint32_t> counts;
    for (uint32_t head = 0; head < 3; ++head) counts.insert(store.rows(1, head));
    CHECK(counts.size() > 1);
    std::vector<float> values(21 * kDim);
    for (float& value : values) value = static_cast<float>(rng.below(512)) / 64 - 4;  // f16 holds these
    store.reserve(21);
    for (uint32_t head = 0; head < 3; ++head) store.append(1, head, 21, values.data(), values.data(), kDim, 53);
    const Store::LayerData after = store.view(1);
    for (uint32_t index = 0; index < 3; ++index) {
      const HeadView &old = before.view.heads[index], &head = after.view.heads[index];
      REQUIRE(head.rows() == old.rows() + 21);
      for (uint32_t row = 0; row < old.rows(); ++row) {
        check_bit_equal(head.key[row], old.key[row]);
        check_bit_equal(head.value[row], old.value[row]);
        CHECK(head.bias[row] == old.bias[row]);
        CHECK(head.pos[row] == old.pos[row]);
        CHECK(head.mass[row] == old.mass[row]);
      }
      for (uint32_t row = 0; row < 21; ++row) {
        check_bit_equal(head.key[old.rows() + row], std::span(values).subspan(row * kDim, kDim));
        check_bit_equal(head.value[old.rows() + row], std::span(values).subspan(row * kDim, kDim));
        CHECK(head.bias[old.rows() + row] == 0.0F);
        CHECK(head.mass[old.rows() + row] == 1.0F);
        CHECK(head.attn_max[old.rows() + row] == 0.0F);
        CHECK(head.pos[old.rows() + row] == static_cast<int32_t>(53 + row));
      }
    }
  }
}

TEST_CASE("apply: an invalid plan changes nothing, even when only its last head is wrong") {
  Store store = filled(shape_of(RowType::kF16, RowType::kF16), 8);
  Rng rng(8);
  const std::vector<std::byte> before = saved(store);
  const StoreBytes bytes = store.bytes();
  LayerPlan plan = random_layer_plan(store.view(1).view, rng);
  plan[2].key.source[0].row = 53;
  CHECK(apply_error(store, 1, plan).find("layer 1, head 2: row 0: key source 53 of 53 rows") != std::string::npos);
  plan.pop_back();
  CHECK(apply_error(store, 1, plan).find("2 heads, but the layer has 3") != std::string::npos);
  CHECK(saved(store) == before);
  CHECK(store.bytes().used == bytes.used);
  CHECK(store.bytes().peak == bytes.peak);
}

TEST_CASE("apply: without memory it says so, and nothing changes") {
  Store store = filled(shape_of(RowType::kF16, RowType::kF16), 9);
  Rng rng(9);
  const size_t page = page_bytes(store.shape()), used = store.bytes().used;
  const LayerPlan plan = random_layer_plan(store.view(1).view, rng);
  const std::vector<std::byte> before = saved(store);
  size_t wanted = 0;
  for (const HeadPlan& head : plan) wanted += (head.rows() + 15) / 16;
  for (size_t pages = 0; pages < wanted; ++pages) {  // room for a part of the heads does not help
    store.set_limit_for_test(used + pages * page);
    CHECK(apply_error(store, 1, plan).find("MiB are available") != std::string::npos);
    CHECK(saved(store) == before);
    CHECK(store.bytes().used == used);
    CHECK(store.bytes().peak == used);
  }
  store.truncate(20);  // the failed ones do not count as an apply
  CHECK(store.total_rows() == 6 * 20);
  store = filled(shape_of(RowType::kF16, RowType::kF16), 9);
  store.set_limit_for_test(used + wanted * page);
  CHECK(apply_error(store, 1, plan) == "");
  CHECK(store.bytes().used == bytes_of_rows(store));
}

TEST_CASE("apply: a layer without rows takes the empty plan") {
  Store store(shape_of(RowType::kF16, RowType::kF16));
  CHECK(apply_error(store, 0, LayerPlan(3)) == "");
  CHECK(store.bytes().used == 0);
}

}  // namespace kvmerger::kv
