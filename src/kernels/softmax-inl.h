// The online softmax over the logits of one tile. To be included after Highway, for every target; empty for those
// without vectors.
#if defined(KVMERGER_KERNELS_SOFTMAX_INL_H) == defined(HWY_TARGET_TOGGLE)  // once per target
#ifdef KVMERGER_KERNELS_SOFTMAX_INL_H
#undef KVMERGER_KERNELS_SOFTMAX_INL_H
#else
#define KVMERGER_KERNELS_SOFTMAX_INL_H
#endif

// Targets without vectors pass through here too: the guard above counts them all.
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/attention.h"
#include "kernels/products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
// Logits are kept in units of ln 2, which saves the exponential a product and its correction.
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2 = 0x1.62e430p-1f;
constexpr float kHighestLogit = kLogitLimit * kLog2E;

// 2^x for x <= 0 within 2 units in the last place; below -126 something smaller than 2^-126, from -127 on 0.
HWY_INLINE Vector exp2_of_negative(Vector x) {
  const Vector magic = hn::Set(kFloats, 0x1.8p23f);  // adding it rounds to a whole number, found in the low bits
  x = hn::Max(x, hn::Set(kFloats, -127.0f));
  const Vector shifted = hn::Add(x, magic);
  const Vector rest = hn::Sub(x, hn::Sub(shifted, magic));
  const Vector square = hn::Mul(rest, rest);
  const Vector high = hn::MulAdd(hn::Set(kFloats, 0x1.59ed2cp-10f), rest, hn::Set(kFloats, 0x1.3cee16p-7f));
  const Vector middle = hn::MulAdd(hn::Set(kFloats, 0x1.c6bca0p-5f), rest, hn::Set(kFloats, 0x1.ebf9acp-3f));
  const Vector low = hn::MulAdd(hn::Set(kFloats, 0x1.62e422p-1f), rest, hn::Set(kFloats, 1.0f));
  const Vector fraction = hn::MulAdd(hn::MulAdd(high, square, middle), square, low);  // 2^rest
  const hn::RebindToSigned<Floats> integers;
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(integers, shifted));
  return hn::BitCast(kFloats, hn::Add(exponent, hn::BitCast(integers, fraction)));
}

// Columns that a query sees of a tile, as masks.
HWY_INLINE hn::Mask<Floats> seen_mask(uint32_t column, uint32_t seen) {
  return hn::FirstN(kFloats, std::min(seen - std::min(column, seen), kLanes));
}

// Largest of each lane of one query's logits [columns].
HWY_INLINE Vector largest_logits(const float* logits, uint32_t columns) {
  Vector largest = load(logits);
  for (uint32_t column = kLanes; column < columns; column += kLanes) largest = hn::Max(largest, load(logits + column));
  return largest;
}

struct SoftmaxTile {
  TilePages pages;
  uint32_t count;    // of pages
  bool biased;       // one of them has biases
  size_t key_bytes;  // of a page ahead that may be fetched
};

// Adds biases to one query's logits [pages * 16], holds them within the limit and hides the columns from `seen` on.
HWY_INLINE void finish_logits(const SoftmaxTile& tile, float* logits, uint32_t seen) {
  const Vector limit = hn::Set(kFloats, kHighestLogit), unit = hn::Set(kFloats, kLog2E);
  const Vector hidden = hn::Set(kFloats, std::numeric_limits<float>::lowest());
  for (uint32_t page = 0; page < tile.count; ++page) {
    const float* bias = tile.pages.here[page].bias;
    for (uint32_t lane = 0; lane < kPageRows; lane += kLanes) {
      const uint32_t column = page * kPageRows + lane;
      Vector logit = load(logits + column);
      if (bias != nullptr) logit = hn::MulAdd(load(bias + lane), unit, logit);
      logit = hn::Max(hn::Min(logit, limit), hn::Neg(limit));
      if (column + kLanes > seen) logit = hn::IfThenElse(seen_mask(column, seen), logit, hidden);
      hn::StoreU(logit, kFloats, logits + column);
    }
  }
}

// Running state of one query; its sum is the sum of the lanes.
struct Running {
  float max = -std::numeric_limits<float>::infinity();
  float sums[kLanes] = {};
};

// Makes one query's logits of a tile ready and follows their maximum. Returns the factor for what was summed before.
HWY_INLINE float raise_max(const SoftmaxTile& tile, float* logits, uint32_t seen, Running& running) {
  const uint32_t columns = tile.count * kPageRows;
  // The usual case: nothing to hide or to add, and nothing above the maximum, which is within the limits.
  if (!tile.biased && seen >= columns && running.max > -kHighestLogit &&
      hn::AllTrue(kFloats, hn::Le(largest_logits(logits, columns), hn::Set(kFloats, running.max)))) {
    return 1.0f;
  }
  finish_logits(tile, logits, seen);
  const float before = running.max;
  running.max = std::max(before, hn::GetLane(hn::MaxOfLanes(kFloats, largest_logits(logits, columns))));
  if (running.max == before) return 1.0f;
  const float factor = std::exp2(before - running.max);
  hn::StoreU(hn::Mul(load(running.sums), hn::Set(kFloats, factor)), kFloats, running.sums);
  return factor;
}

// Lines of each page of the next tile's keys that one query's softmax fetches. Scoring asks for all of its keys, but
// compilers put that at its beginning, for more lines in a row than a core waits for at a time, and then memory rests
// until values are added up: to ask again for some takes up to an eighth off decoding over rows that are in no cache.
constexpr size_t kFetchedLines = 6;

// The logits of the tile's query number `query` become 2^(logit - running maximum). Returns the factor for what was
// summed before.
HWY_INLINE float softmax_tile(const SoftmaxTile& tile, uint32_t query, float* logits, uint32_t seen, Running& running) {
  if (seen == 0) {
    std::fill_n(logits, tile.count * kPageRows, 0.0f);
    return 1.0f;
  }
  const float factor = raise_max(tile, logits, seen, running);
  const Vector max = hn::Set(kFloats, running.max);
  Vector sum = load(running.sums);
  const size_t fetched = query * kFetchedLines * kLineBytes;
  for (uint32_t page = 0; page < tile.count; ++page, logits += kPageRows) {
    if (query == 0 && tile.biased) fetch(tile.pages.ahead[page].bias);
    if (fetched < tile.key_bytes) {
      const std::byte* lines = tile.pages.ahead[page].key + fetched;
      HWY_UNROLL(16)
      for (size_t line = 0; line < kFetchedLines; ++line) fetch(lines + line * kLineBytes);
    }
    HWY_UNROLL(16)
    for (uint32_t lane = 0; lane < kPageRows; lane += kLanes) {
      const Vector probability = exp2_of_negative(hn::Sub(load(logits + lane), max));
      hn::StoreU(probability, kFloats, logits + lane);
      sum = hn::Add(sum, probability);
    }
  }
  hn::StoreU(sum, kFloats, running.sums);
  return factor;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#endif  // with vectors
#endif  // per target
