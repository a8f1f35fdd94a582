// How attention cuts its rows into tiles, and where it keeps what it computes for one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/page.h"

namespace kvmerger::kernels {

inline constexpr uint32_t kTilePages = 4;
inline constexpr uint32_t kTileRows = kTilePages * kPageRows;

constexpr size_t round_up(size_t count) { return (count + 15) / 16 * 16; }
constexpr uint32_t pages_of(uint32_t rows) { return (rows + kPageRows - 1) / kPageRows; }
constexpr uint32_t tiles_of(uint32_t rows) { return (rows + kTileRows - 1) / kTileRows; }

// Vectors that straddle cache lines cost double, so scratch is used from a multiple of 64 bytes on.
inline constexpr size_t kAlignment = 64;
inline float* aligned(float* scratch) {
  const size_t behind = reinterpret_cast<uintptr_t>(scratch) % kAlignment;
  return scratch + (kAlignment - behind) % kAlignment / sizeof(float);
}

// Where attend keeps its intermediate results; all offsets in floats and multiples of 16.
struct ScratchLayout {
  size_t padded_dim;                                        // columns of V and acc, whole panels of 16
  size_t packed, acc, keys, values, probabilities, maxima;  // offsets
  size_t total;                                             // with room for alignment

  ScratchLayout(uint32_t queries, uint32_t rows, uint32_t head_dim, bool with_stats)
      : padded_dim(round_up(head_dim)), packed(0) {
    const size_t tiles = with_stats ? std::max(1u, tiles_of(rows)) : 1;
    acc = packed + round_up(size_t{queries} * head_dim);
    keys = acc + queries * padded_dim;
    values = keys + size_t{kTileRows} * head_dim;
    probabilities = values + kTileRows * padded_dim;
    maxima = probabilities + tiles * queries * kTileRows;
    total = maxima + tiles * queries + kAlignment / sizeof(float);
  }
};

}  // namespace kvmerger::kernels
