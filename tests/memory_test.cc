// Memory that eviction gives back to the system, seen from outside: the resident set of this process.
#include <doctest/doctest.h>
#include <malloc.h>

#include <fstream>
#include <optional>
#include <string>

#include "kv/test_store.h"

namespace kvmerger::kv {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kHeapIsExact = false;  // freed heap memory is kept for a while
#else
constexpr bool kHeapIsExact = true;
#endif

size_t resident_set() {
  malloc_trim(0);  // what the views left on the heap is not the cache's
  std::ifstream status("/proc/self/status");
  std::string word;
  size_t kib = 0;
  while (status >> word) {
    if (word == "VmRSS:") status >> kib;
  }
  REQUIRE(kib > 0);
  return kib << 10;
}

constexpr StoreShape kShape{
    .layers = 8, .heads = 4, .head_dim = 64, .key_type = RowType::kF16, .value_type = RowType::kF16, .stats = {}};
constexpr uint32_t kRows = 16000;
// K and V of f16, then bias, position and mass; written out here so that page_bytes is checked too.
constexpr size_t kPageBytes = 16 * (2 * 64 * 2 + 3 * 4);

Store full_store() {
  Store store(kShape);
  Rng rng(1);
  for (uint32_t done = 0; done < kRows; done += 500) append_everywhere(store, rng, 500, static_cast<int32_t>(done));
  return store;
}

// 35 % of the rows, scattered over each head.
size_t evict(Store& store) {
  Rng rng(2);
  size_t pages = 0;
  for (uint32_t layer = 0; layer < kShape.layers; ++layer) {
    const LayerPlan plan = random_eviction(store.view(layer).view, rng, 0.35);
    for (const HeadPlan& head : plan) pages += (head.rows() + 15) / 16;
    store.apply(layer, plan);
  }
  return pages * kPageBytes;
}

bool within(size_t bytes, size_t expected, double tolerance) {
  const double share = static_cast<double>(bytes) / static_cast<double>(expected);
  CAPTURE(share);
  return share > 1 - tolerance && share < 1 + tolerance;
}

}  // namespace

TEST_CASE("keeping 35 % of the rows returns the memory of the others to the system") {
  full_store();  // so that one-time costs are paid before the first look
  const size_t before = resident_set();
  std::optional<Store> store = full_store();
  constexpr size_t kFull = kRows / 16 * kPageBytes * kShape.layers * kShape.heads;
  static_assert(kFull > 100'000'000);
  CHECK(store->bytes().used == kFull);
  CHECK(store->bytes().resident < kFull + (size_t{1} << 20));
  const size_t full = resident_set();

  const size_t kept = evict(*store);
  CHECK(store->bytes().used == kept);
  CHECK(store->bytes().used == bytes_of_rows(*store));
  CHECK(store->total_rows() < kRows * kShape.layers * kShape.heads * 36 / 100);
  const size_t after = resident_set();
  MESSAGE("full " << kFull << ", resident set before " << before << ", full " << full << ", after " << after);
  if (kHeapIsExact) {
    CHECK(within(full - before, kFull, 0.02));
    CHECK(full - after >= kFull * 6 / 10);
    CHECK(within(after - before, store->bytes().resident, 0.05));
  }
  CHECK(store->bytes().resident < kFull * 4 / 10);

  store.reset();
  const size_t end = resident_set();
  if (kHeapIsExact) CHECK(end < before + kFull / 100);
}

TEST_CASE("memory given back is used again before more is asked for") {
  Store store = full_store();
  evict(store);
  const size_t peak = store.bytes().peak;
  Rng rng(3);
  append_everywhere(store, rng, kRows / 2, kRows);  // 0.35 + 0.5 of the full cache
  CHECK(store.bytes().peak == peak);
  CHECK(store.bytes().used == bytes_of_rows(store));
  CHECK(store.bytes().resident < store.bytes().used + (size_t{2} << 20));
}

}  // namespace kvmerger::kv
