// For tests of the cache: stores with random rows, and all bytes of a store to compare.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/rng.h"
#include "kv/store.h"

namespace kvmerger::kv {

inline std::vector<float> random_values(Rng& rng, size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.uniform() * 2 - 1);
  return values;
}

inline std::vector<std::byte> saved(const Store& store) {
  std::vector<std::byte> bytes;
  store.save([&](const void* data, size_t size) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), begin, begin + size);
  });
  return bytes;
}

// Appends random rows to one head, whose room must be reserved.
inline void append_random(Store& store, Rng& rng, uint32_t layer, uint32_t head, uint32_t count, int32_t first_pos) {
  const uint32_t head_dim = store.shape().head_dim;
  const std::vector<float> key = random_values(rng, size_t{count} * head_dim);
  const std::vector<float> value = random_values(rng, size_t{count} * head_dim);
  store.append(layer, head, count, key.data(), value.data(), head_dim, first_pos);
}

// Appends `count` random rows to every head, with random numbers in the statistics of all its rows.
inline void append_everywhere(Store& store, Rng& rng, uint32_t count, int32_t first_pos) {
  store.reserve(count);
  for (uint32_t layer = 0; layer < store.shape().layers; ++layer) {
    for (uint32_t head = 0; head < store.shape().heads; ++head) {
      append_random(store, rng, layer, head, count, first_pos);
      for (const Stat stat : {Stat::kSum, Stat::kWindow, Stat::kMax}) {
        if (!store.shape().stats[static_cast<size_t>(stat)]) continue;
        store.add_stat(layer, head, stat, random_values(rng, store.rows(layer, head)));
      }
    }
  }
}

// The rows of each head that a plan keeps: chosen at random with this chance, and the newest.
inline LayerPlan random_eviction(const LayerView& view, Rng& rng, double chance) {
  LayerPlan plan;
  for (const HeadView& head : view.heads) {
    std::vector<uint32_t> kept;
    for (uint32_t row = 0; row < head.rows(); ++row) {
      if (row + 1 == head.rows() || rng.uniform() < chance) kept.push_back(row);
    }
    plan.push_back(keep_rows(head, kept));
  }
  return plan;
}

// Bytes that a store without reserved room uses: the pages of each head's rows.
inline size_t bytes_of_rows(const Store& store) {
  size_t pages = 0;
  for (uint32_t layer = 0; layer < store.shape().layers; ++layer) {
    for (uint32_t head = 0; head < store.shape().heads; ++head) pages += (store.rows(layer, head) + 15) / 16;
  }
  return pages * page_bytes(store.shape());
}

}  // namespace kvmerger::kv
