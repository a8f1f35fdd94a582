#include "kv/store.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "kv/test_store.h"

namespace kvmerger::kv {
namespace {

constexpr StoreShape kShape{
    .layers = 3, .heads = 2, .head_dim = 24, .key_type = RowType::kF32, .value_type = RowType::kF32, .stats = {}};

StoreShape half_shape() {
  StoreShape shape = kShape;
  shape.key_type = shape.value_type = RowType::kF16;
  return shape;
}

StoreShape stat_shape() {
  StoreShape shape = kShape;
  std::fill(shape.stats, shape.stats + kStats, true);
  return shape;
}

// A store whose heads have lost different rows, with a bias on every row that is left.
Store ragged_store(const StoreShape& shape, uint64_t seed, uint32_t rows = 70) {
  Store store(shape);
  Rng rng(seed);
  append_everywhere(store, rng, rows, 0);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    LayerPlan plan = random_eviction(store.view(layer).view, rng, 0.3 + 0.2 * layer);
    for (HeadPlan& head : plan) {
      for (float& bias : head.bias) bias = static_cast<float>(rng.uniform());
    }
    store.apply(layer, plan);
  }
  return store;
}

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::vector<float> floats(std::span<const float> values) { return {values.begin(), values.end()}; }

}  // namespace

TEST_CASE("store: a page holds K, V, bias, position and mass of 16 rows, and statistics when asked") {
  StoreShape shape{.layers = 1, .heads = 1, .head_dim = 64, .key_type = RowType::kF16, .value_type = RowType::kF16};
  CHECK(page_bytes(shape) == 2 * 16 * 64 * 2 + 3 * 64);
  shape.value_type = RowType::kF32;
  CHECK(page_bytes(shape) == 16 * 64 * 2 + 16 * 64 * 4 + 3 * 64);
  shape.stats[1] = true;
  CHECK(page_bytes(shape) == 16 * 64 * 2 + 16 * 64 * 4 + 4 * 64);
  shape.head_dim = 5;  // 160 and 320 bytes: the first is filled up to a multiple of 64
  CHECK(page_bytes(shape) == 192 + 320 + 4 * 64);
  shape = {.layers = 1, .heads = 1, .head_dim = 64, .key_type = RowType::kQ8, .value_type = RowType::kQ8, .stats = {}};
  CHECK(page_bytes(shape) == 2 * 16 * (64 + 2 * 2) + 3 * 64);  // a scale of two bytes for each 32 values
}

TEST_CASE("store: shapes that cannot be are refused") {
  const auto refused = [](StoreShape shape) { return error_of([&] { Store store(shape); }); };
  CHECK(refused({.layers = 0, .heads = 1, .head_dim = 8}).find("0 layers") != std::string::npos);
  CHECK(refused({.layers = 1, .heads = 0, .head_dim = 8}).find("0 heads") != std::string::npos);
  CHECK(refused({.layers = 1, .heads = 1, .head_dim = 0}) != "");
  CHECK(refused({.layers = 1, .heads = 1, .head_dim = 5000}) != "");
  CHECK(refused({.layers = 1U << 31, .heads = 2, .head_dim = 8}) != "");
  CHECK(refused(kShape) == "");
}

TEST_CASE("store: rows come back as they were appended, in ragged heads and pieces of any size") {
  for (const uint32_t stride : {24U, 31U}) {
    Store store(kShape);
    store.reserve(100);
    Rng rng(stride);
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t head = 0; head < 2; ++head) {
        const uint32_t rows = 7 + 31 * layer + 13 * head;
        const std::vector<float> key = random_values(rng, rows * stride), value = random_values(rng, rows * stride);
        for (uint32_t done = 0; done < rows;) {
          const uint32_t some = std::min(rows - done, 1 + rng.below(40));
          store.append(layer, head, some, &key[done * stride], &value[done * stride], stride,
                       static_cast<int32_t>(5 + done));
          done += some;
        }
        REQUIRE(store.rows(layer, head) == rows);
        const Store::LayerData data = store.view(layer);
        const HeadView& view = data.view.heads[head];
        REQUIRE(view.rows() == rows);
        for (uint32_t row = 0; row < rows; ++row) {
          CHECK(std::equal(view.key[row].begin(), view.key[row].end(), &key[row * stride]));
          CHECK(std::equal(view.value[row].begin(), view.value[row].end(), &value[row * stride]));
          CHECK(view.pos[row] == static_cast<int32_t>(5 + row));
          CHECK(view.mass[row] == 1.0F);
          CHECK(view.bias[row] == 0.0F);
        }
      }
    }
    CHECK(store.total_rows() == 7 + 20 + 38 + 51 + 69 + 82);
  }
}

TEST_CASE("store: a view tells its layer and holds only the statistics asked for") {
  StoreShape shape = kShape;
  shape.stats[static_cast<size_t>(Stat::kWindow)] = true;
  Store store(shape);
  Rng rng(3);
  append_everywhere(store, rng, 4, 0);
  const Store::LayerData data = store.view(1);
  CHECK(data.view.index == 1);
  CHECK(data.view.count == 3);
  REQUIRE(data.view.heads.size() == 2);
  for (const HeadView& head : data.view.heads) {
    CHECK(head.key.dim == 24);
    CHECK(head.attn_sum.empty());
    CHECK(head.attn_win.size() == 4);
    CHECK(head.attn_max.empty());
    CHECK(head.query.count == 0);
  }
}

TEST_CASE("store: statistics add up, take the larger, and are cleared") {
  Store store(stat_shape());
  store.reserve(20);
  Rng rng(4);
  append_random(store, rng, 2, 1, 20, 0);
  const std::vector<float> first = random_values(rng, 20), second = random_values(rng, 20);
  for (const Stat stat : {Stat::kSum, Stat::kWindow, Stat::kMax}) {
    store.add_stat(2, 1, stat, first);
    store.add_stat(2, 1, stat, second);
  }
  {
    const Store::LayerData data = store.view(2);
    const HeadView& head = data.view.heads[1];
    for (uint32_t row = 0; row < 20; ++row) {
      CHECK(head.attn_sum[row] == first[row] + second[row]);
      CHECK(head.attn_win[row] == first[row] + second[row]);
      CHECK(head.attn_max[row] == std::max({0.0F, first[row], second[row]}));
    }
    CHECK(data.view.heads[0].rows() == 0);
  }
  store.clear_stat(Stat::kWindow);
  append_random(store, rng, 2, 1, 3, 20);
  const Store::LayerData data = store.view(2);
  CHECK(floats(data.view.heads[1].attn_win) == std::vector<float>(23));
  CHECK(data.view.heads[1].attn_sum[0] == first[0] + second[0]);
  CHECK(data.view.heads[1].attn_sum[22] == 0.0F);
}

TEST_CASE("store: used bytes are pages of rows and of reserved room, shrink gives the room back") {
  Store store(kShape);
  const size_t page = page_bytes(kShape);
  CHECK(store.bytes().used == 0);
  store.reserve(0);
  CHECK(store.bytes().used == 0);
  store.reserve(1);
  CHECK(store.bytes().used == 6 * page);
  store.reserve(16);
  CHECK(store.bytes().used == 6 * page);
  store.reserve(17);
  CHECK(store.bytes().used == 12 * page);
  Rng rng(5);
  append_random(store, rng, 0, 0, 17, 0);
  append_random(store, rng, 1, 1, 16, 0);
  store.shrink();
  CHECK(store.bytes().used == 3 * page);
  CHECK(store.bytes().used == bytes_of_rows(store));
  CHECK(store.bytes().peak == 12 * page);
  CHECK(store.rows(0, 0) == 17);
  store.reserve(1);  // ragged: two heads have room
  CHECK(store.bytes().used == (2 + 2 + 4) * page);
  append_random(store, rng, 1, 1, 1, 16);
  CHECK(store.view(1).view.heads[1].pos[16] == 16);
}

TEST_CASE("store: eviction returns bytes to the pool") {
  Store store = ragged_store(half_shape(), 6, 500);
  CHECK(store.bytes().used == bytes_of_rows(store));
  CHECK(store.bytes().peak >= 6 * 32 * page_bytes(half_shape()));
  CHECK(store.bytes().used < store.bytes().peak * 6 / 10);
  CHECK(store.bytes().resident >= store.bytes().used);
  CHECK(store.bytes().resident < store.bytes().peak);
}

TEST_CASE("store: reserve without memory says so, and nothing changes") {
  Store store = ragged_store(kShape, 7);
  const std::vector<std::byte> before = saved(store);
  const size_t used = store.bytes().used;
  store.set_limit_for_test(used + 3 * page_bytes(kShape));  // of the 6 pages that 16 more rows need
  const std::string message = error_of([&] { store.reserve(16); });
  CHECK(message.find("MiB are available") != std::string::npos);
  CHECK(saved(store) == before);
  CHECK(store.bytes().used == used);
  store.set_limit_for_test(SIZE_MAX);
  CHECK(error_of([&] { store.reserve(UINT32_MAX); }).find("MiB are available") != std::string::npos);
  CHECK(saved(store) == before);
  CHECK(store.bytes().used == used);
  Rng rng(7);
  append_everywhere(store, rng, 16, 70);
  CHECK(store.bytes().used == bytes_of_rows(store));
}

TEST_CASE("store: two threads append to different heads") {
  constexpr uint32_t kRows = 3000;
  Store together(half_shape()), apart(half_shape());
  together.reserve(kRows);
  apart.reserve(kRows);
  const auto fill = [](Store& store, uint32_t head) {
    Rng rng(head);
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t row = 0; row < kRows; row += 3)
        append_random(store, rng, layer, head, 3, static_cast<int32_t>(row));
    }
  };
  std::thread other([&] { fill(together, 1); });
  fill(together, 0);
  other.join();
  fill(apart, 0);
  fill(apart, 1);
  CHECK(saved(together) == saved(apart));
}

TEST_CASE("store: truncate after append is as if never appended") {
  for (const StoreShape& shape : {kShape, half_shape(), stat_shape()}) {
    for (const uint32_t more : {1U, 5U, 16U, 77U}) {
      Store store = ragged_store(shape, more);
      const std::vector<std::byte> before = saved(store);
      const size_t used = store.bytes().used;
      Rng rng(9);
      store.reserve(more);
      for (uint32_t layer = 0; layer < 3; ++layer) {
        for (uint32_t head = 0; head < 2; ++head) append_random(store, rng, layer, head, more, 70);
      }
      CHECK(saved(store) != before);
      store.truncate(70);
      CHECK(saved(store) == before);
      CHECK(store.bytes().used == used);
      store.truncate(70);
      store.truncate(1000);
      CHECK(saved(store) == before);
    }
  }
}

TEST_CASE("store: truncate in the middle leaves what fewer appends would have made") {
  for (const int32_t end : {0, 1, 15, 16, 17, 40, 99}) {
    Store longer(kShape), shorter(kShape);
    Rng rng(10), same(10);
    const std::vector<float> key = random_values(rng, 100 * 24), value = random_values(rng, 100 * 24);
    longer.reserve(100);
    shorter.reserve(100);
    for (uint32_t head = 0; head < 2; ++head) {
      longer.append(1, head, 100, key.data(), value.data(), 24, 0);
      shorter.append(1, head, static_cast<uint32_t>(end), key.data(), value.data(), 24, 0);
    }
    longer.truncate(end);
    CHECK(saved(longer) == saved(shorter));
    CHECK(longer.bytes().used == bytes_of_rows(longer));
    longer.reserve(100);
    const auto from = static_cast<size_t>(end) * 24;
    for (uint32_t head = 0; head < 2; ++head) {
      longer.append(1, head, 100 - static_cast<uint32_t>(end), &key[from], &value[from], 24, end);
      shorter.append(1, head, 100 - static_cast<uint32_t>(end), &key[from], &value[from], 24, end);
    }
    CHECK(saved(longer) == saved(shorter));
  }
}

TEST_CASE("store: truncate below the last apply is refused, and nothing changes") {
  Store store = ragged_store(kShape, 11);
  Rng rng(11);
  append_everywhere(store, rng, 20, 70);
  const std::vector<std::byte> before = saved(store);
  const size_t used = store.bytes().used;
  const std::string message = error_of([&] { store.truncate(69); });
  CHECK(message.find("token 69") != std::string::npos);
  CHECK(message.find("token 70") != std::string::npos);
  CHECK(error_of([&] { store.truncate(0); }) != "");
  CHECK(saved(store) == before);
  CHECK(store.bytes().used == used);
  store.truncate(70);
  CHECK(store.view(0).view.heads[0].pos.back() == 69);
}

TEST_CASE("store: an apply that changes nothing does not stop truncate") {
  Store store(kShape);
  Rng rng(12);
  append_everywhere(store, rng, 20, 0);
  store.apply(1, {keep_all(store.view(1).view.heads[0]), keep_all(store.view(1).view.heads[1])});
  store.truncate(10);
  CHECK(store.total_rows() == 60);
}

TEST_CASE("store: moving hands over rows, what was moved from can be assigned to") {
  Store store = ragged_store(kShape, 13);
  const std::vector<std::byte> bytes = saved(store);
  const std::byte* key = store.head(1, 1).pages[0].key;
  Store second = std::move(store);
  CHECK(saved(second) == bytes);
  CHECK(second.head(1, 1).pages[0].key == key);
  store = Store(half_shape());
  CHECK(store.shape() == half_shape());
  CHECK(store.total_rows() == 0);
  store = std::move(second);
  CHECK(saved(store) == bytes);
  CHECK(store.bytes().used == bytes_of_rows(store));
}

TEST_CASE("store: load gives what save took, into reserved room too") {
  for (const StoreShape& shape : {kShape, half_shape(), stat_shape()}) {
    for (const uint32_t reserved : {0U, 10U, 200U}) {
      const Store store = ragged_store(shape, 14, 1100);  // more pages than are read at once
      const std::vector<std::byte> bytes = saved(store);
      Store loaded(shape);
      loaded.reserve(reserved);
      size_t at = 0;
      loaded.load([&](void* data, size_t size) {
        REQUIRE(at + size <= bytes.size());
        std::memcpy(data, &bytes[at], size);
        at += size;
      });
      CHECK(at == bytes.size());
      CHECK(saved(loaded) == bytes);
      CHECK(loaded.bytes().used == bytes_of_rows(loaded));
      for (uint32_t page = 0; page < (store.rows(2, 1) + 15) / 16;
           ++page) {  // as kernels see it: every page has biases
        const float *bias = store.head(2, 1).pages[page].bias, *same = loaded.head(2, 1).pages[page].bias;
        REQUIRE(same != nullptr);
        CHECK(std::equal(bias, bias + 16, same));
      }
      CHECK_THROWS_AS(loaded.truncate(1000), Error);  // the end of the last apply came along
    }
  }
}

TEST_CASE("store: load refuses positions that do not increase, and a number of rows that no memory holds") {
  Store store(kShape);
  Rng rng(15);
  store.reserve(2);
  append_random(store, rng, 0, 0, 1, 5);
  append_random(store, rng, 0, 0, 1, 5);
  const auto load = [](const std::vector<std::byte>& bytes) {
    return error_of([&] {
      size_t at = 0;
      Store(kShape).load([&](void* data, size_t size) {
        if (at + size > bytes.size()) throw Error("the end");
        std::memcpy(data, &bytes[at], size);
        at += size;
      });
    });
  };
  CHECK(load(saved(store)).find("positions do not increase") != std::string::npos);
  std::vector<std::byte> bytes = saved(store);
  std::fill_n(bytes.begin() + 4, 4, std::byte{0xff});  // rows of the first head
  CHECK(load(bytes) == "the end");
}

}  // namespace kvmerger::kv
