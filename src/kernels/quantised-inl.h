// The two matrix products of attention over q8_0 pages, in integers: queries and probabilities are rounded to int16, so
// that one instruction multiplies and adds pairs of them (pmaddwd on x86). Less arithmetic than converting the cache
// to f32, and 2^-16 of the largest number is far below what q8_0 itself rounds. To be included after Highway, for every
// target; empty for those without vectors.
#if defined(KVMERGER_KERNELS_QUANTISED_INL_H) == defined(HWY_TARGET_TOGGLE)  // once per target
#ifdef KVMERGER_KERNELS_QUANTISED_INL_H
#undef KVMERGER_KERNELS_QUANTISED_INL_H
#else
#define KVMERGER_KERNELS_QUANTISED_INL_H
#endif

// Targets without vectors pass through here too: the guard above counts them all.
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {

using Integers = hn::RebindToSigned<Floats>;
using Shorts = hn::Repartition<int16_t, Integers>;
constexpr Integers kIntegers;
constexpr Shorts kShorts;
using IntegerVector = hn::Vec<Integers>;
using ShortVector = hn::Vec<Shorts>;

constexpr float kMostSteps = 32767;
constexpr uint32_t kPairs = kPageRows / 2;      // of slots in a page of values
constexpr uint32_t kPairBytes = 2 * kPageRows;  // one step of a sum: 16 columns of two int8
static_assert(kTileRows * 127.0 * kMostSteps < 2e9 && kScaleBlock * 127.0 * kMostSteps < 2e9);  // sums are int32

// Steps per unit, so that numbers up to `largest` become at most kMostSteps; 0 for what has no such number.
HWY_INLINE float steps_per_unit(float largest) {
  const float steps = kMostSteps / largest;
  return std::isfinite(steps) ? steps : 0.0f;
}

// Behind a page's keys or values: [blocks][16].
HWY_INLINE const Half* scales_of(const int8_t* part, uint32_t head_dim) {
  return reinterpret_cast<const Half*>(part + size_t{kPageRows} * head_dim);
}

// M sums of 16 columns. += left pair of each row times a step of a panel.
template <int M>
struct PairSums {
  IntegerVector at[M][kVectors];

  HWY_INLINE PairSums() {
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      HWY_UNROLL(16)
      for (int vector = 0; vector < kVectors; ++vector) at[row][vector] = hn::Zero(kIntegers);
    }
  }

  // kSteps of them; what step s multiplies by in row r is at s * stride + r * row_stride of left, in 32 bits. Meanwhile
  // `ahead`, a panel needed later, comes into the cache.
  template <size_t kSteps, class Left>
  HWY_INLINE void add(const int8_t* panel, const int8_t* ahead, const Left* left, size_t stride, size_t row_stride) {
    HWY_UNROLL(16)
    for (size_t step = 0; step < kSteps; ++step) {
      if (step % (64 / kPairBytes) == 0) hwy::Prefetch(ahead + step * kPairBytes);
      ShortVector right[kVectors];
      HWY_UNROLL(16)
      for (int vector = 0; vector < kVectors; ++vector) {
        const hn::Rebind<int8_t, Shorts> bytes;
        const size_t at = step * kPairBytes + static_cast<size_t>(vector) * 2 * kLanes;
        right[vector] = hn::PromoteTo(kShorts, hn::LoadU(bytes, panel + at));
      }
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) {
        const ShortVector pair = hn::BitCast(
            kShorts,
            hn::Set(hn::Rebind<Left, Integers>(), left[step * stride + static_cast<size_t>(row) * row_stride]));
        HWY_UNROLL(16)
        for (int vector = 0; vector < kVectors; ++vector) {
          IntegerVector high = hn::Zero(kIntegers);
          const IntegerVector low = hn::ReorderWidenMulAccumulate(kIntegers, pair, right[vector], high, high);
          at[row][vector] = hn::Add(at[row][vector], hn::RearrangeToOddPlusEven(low, high));
        }
      }
      keep_order();
    }
  }

 private:
  // GCC would add up last, with the products of all steps waiting in memory, at twice the time.
  HWY_INLINE void keep_order() {
#if HWY_COMPILER_GCC_ACTUAL && HWY_ARCH_X86
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      HWY_UNROLL(16)
      for (int vector = 0; vector < kVectors; ++vector) asm("" : "+v"(at[row][vector].raw));
    }
#endif
  }
};

// Queries [M, head_dim] times scale, as int16: for each block of dimensions its pairs [dims / 2][M], then the steps
// [M]. head_dim is even; that takes no more than M * head_dim floats.
HWY_INLINE void pack_q8_queries(const float* const* data, uint32_t queries, uint32_t head_dim, float scale, float* to) {
  for (uint32_t first = 0; first < head_dim; first += kScaleBlock) {
    const uint32_t dims = std::min(kScaleBlock, head_dim - first);
    const uint32_t pairs = dims / 2;
    float* steps = to + size_t{pairs} * queries;
    for (uint32_t query = 0; query < queries; ++query) {
      HWY_ALIGN float numbers[kScaleBlock + 2 * kLanes] = {};
      std::copy_n(data[query] + first, dims, numbers);
      Vector most = hn::Zero(kFloats);
      for (uint32_t dim = 0; dim < dims; dim += kLanes) most = hn::Max(most, hn::Abs(hn::Load(kFloats, numbers + dim)));
      const float largest = hn::GetLane(hn::MaxOfLanes(kFloats, most));
      const Vector inverse = hn::Set(kFloats, steps_per_unit(largest));
      HWY_ALIGN int32_t packed[kScaleBlock / 2 + kLanes];
      for (uint32_t pair = 0; pair < pairs; pair += kLanes) {
        Vector low, high;
        hn::LoadInterleaved2(kFloats, numbers + 2 * pair, low, high);
        const IntegerVector even = hn::And(hn::NearestInt(hn::Mul(low, inverse)), hn::Set(kIntegers, 0xffff));
        const IntegerVector odd = hn::ShiftLeft<16>(hn::NearestInt(hn::Mul(high, inverse)));
        hn::StoreU(hn::Or(even, odd), kIntegers, packed + pair);
      }
      for (uint32_t pair = 0; pair < pairs; ++pair) to[pair * queries + query] = std::bit_cast<float>(packed[pair]);
      steps[query] = largest / kMostSteps * scale;
    }
    to = steps + queries;
  }
}

// logits [M, kTileRows], columns of one page = queries packed by pack_q8_queries * keys.
template <int M>
HWY_INLINE void score_q8_page(const float* packed, uint32_t head_dim, const int8_t* keys, const int8_t* ahead,
                              float* logits) {
  for (uint32_t first = 0; first < head_dim; first += kScaleBlock) {
    PairSums<M> sums;
    const uint32_t pairs = std::min(kScaleBlock, head_dim - first) / 2;
    if (pairs == kScaleBlock / 2) {
      sums.template add<kScaleBlock / 2>(keys, ahead, packed, M, 1);
    } else {
      for (size_t pair = 0; pair < pairs; ++pair) {
        sums.template add<1>(keys + pair * kPairBytes, ahead + pair * kPairBytes, packed + pair * M, M, 1);
      }
    }
    packed += size_t{pairs} * M, keys += pairs * kPairBytes, ahead += pairs * kPairBytes;
    const size_t behind = size_t{head_dim - std::min(first + kScaleBlock, head_dim)} * kPageRows;
    const size_t scales = behind + size_t{first} / kScaleBlock * kPageRows * sizeof(Half);
    hwy::Prefetch(ahead + scales);
    HWY_UNROLL(16)
    for (int vector = 0; vector < kVectors; ++vector) {
      const Vector scale = load(reinterpret_cast<const Half*>(keys + scales) + static_cast<size_t>(vector) * kLanes);
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) {
        float* to = logits + row * kTileRows + vector * kLanes;
        const Vector step = hn::Mul(scale, hn::Set(kFloats, packed[row]));
        const Vector before = first == 0 ? hn::Zero(kFloats) : load(to);
        hn::StoreU(hn::MulAdd(hn::ConvertTo(kFloats, sums.at[row][vector]), step, before), kFloats, to);
      }
    }
    packed += M;
  }
}

template <int M>
void score_q8_pages(const float* packed, uint32_t head_dim, const void* const* keys, const void* const* ahead,
                    uint32_t pages, float* logits) {
  for (uint32_t page = 0; page < pages; ++page) {
    score_q8_page<M>(packed, head_dim, static_cast<const int8_t*>(keys[page]), static_cast<const int8_t*>(ahead[page]),
                     logits + page * kPageRows);
  }
}

// Probabilities times the scales of one block of columns as int16, for a tile of values: [M, kTileRows / 2] pairs of
// slots, and what one step is worth [M]. Steps follow the largest product of each query: rows that it does not see, and
// what lies behind the last row, have no part in it.
template <int M>
class PackedProbabilities {
 public:
  HWY_INLINE PackedProbabilities(const ValueTile& tile, size_t columns, size_t block) {
    Slots inverse[M];
    find_steps(tile, columns, block, inverse);
    for (uint32_t first = 0; first < tile.rows; first += kPageRows) {
      for (uint32_t slot = 0; slot < kPairs; slot += kSlotLanes) {
        const Slots low = scales(tile, columns, block, first + slot);
        const Slots high = scales(tile, columns, block, first + kPairs + slot);
        HWY_UNROLL(16)
        for (int row = 0; row < M; ++row) {
          const float* from = tile.probabilities + row * kTileRows + first + slot;
          const auto even = hn::And(rounded(from, low, inverse[row]), hn::Set(kSlotIntegers, 0xffff));
          const auto odd = hn::ShiftLeft<16>(rounded(from + kPairs, high, inverse[row]));
          hn::StoreU(hn::Or(even, odd), kSlotIntegers, pairs_[row] + first / 2 + slot);
        }
      }
    }
  }

  const int32_t* pairs(uint32_t first_row) const { return pairs_[0] + first_row / 2; }
  float step(int row) const { return steps_[row]; }

 private:
  using SlotTag = hn::CappedTag<float, kPairs>;
  using Slots = hn::Vec<SlotTag>;
  static constexpr SlotTag kSlots{};
  static constexpr hn::RebindToSigned<SlotTag> kSlotIntegers{};
  static constexpr uint32_t kSlotLanes = hn::MaxLanes(kSlots);

  // The scales from a row of the tile on.
  static HWY_INLINE Slots scales(const ValueTile& tile, size_t columns, size_t block, uint32_t row) {
    const int8_t* page = static_cast<const int8_t*>(tile.values[row / kPageRows]);
    const Half* from = scales_of(page, static_cast<uint32_t>(columns)) + block * kPageRows + row % kPageRows;
    return hn::PromoteTo(kSlots, hn::LoadU(hn::Rebind<Half, SlotTag>(), from));
  }

  HWY_INLINE void find_steps(const ValueTile& tile, size_t columns, size_t block, Slots (&inverse)[M]) {
    Slots most[M];
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) most[row] = hn::Zero(kSlots);
    for (uint32_t first = 0; first < pages_of(tile.rows) * kPageRows; first += kSlotLanes) {
      const Slots scale = scales(tile, columns, block, first);
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) {
        most[row] = hn::Max(most[row], hn::Mul(hn::LoadU(kSlots, tile.probabilities + row * kTileRows + first), scale));
      }
    }
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      const float largest = hn::GetLane(hn::MaxOfLanes(kSlots, most[row]));
      steps_[row] = largest / kMostSteps;
      inverse[row] = hn::Set(kSlots, steps_per_unit(largest));
    }
  }

  // Whole steps of a probability, in the low 16 bits.
  static HWY_INLINE auto rounded(const float* probability, Slots scale, Slots inverse) {
    const Slots magic = hn::Set(kSlots, 0x1p23f);  // adding it rounds to a whole number
    return hn::BitCast(kSlotIntegers, hn::MulAdd(hn::Mul(hn::LoadU(kSlots, probability), scale), inverse, magic));
  }

  HWY_ALIGN int32_t pairs_[M][kTileRows / 2];
  float steps_[M];
};

// acc [M, 16 columns] = acc * factor + P V, from column on, a multiple of 16.
template <int M>
HWY_INLINE void add_q8_panel(const ValueTile& tile, const PackedProbabilities<M>& probabilities, const float* factors,
                             size_t column, float* acc, size_t columns) {
  PairSums<M> sums;
  for (uint32_t first = 0; first < tile.rows; first += kPageRows) {
    const int8_t* panel = static_cast<const int8_t*>(tile.values[first / kPageRows]) + column * kPageRows;
    const int8_t* ahead = static_cast<const int8_t*>(tile.ahead[first / kPageRows]) + column * kPageRows;
    const int32_t* left = probabilities.pairs(first);
    HWY_UNROLL(1)
    for (uint32_t pair = 0; pair < kPairs; pair += 4, left += 4, panel += 4 * kPairBytes, ahead += 4 * kPairBytes) {
      sums.template add<4>(panel, ahead, left, 1, kTileRows / 2);
    }
  }
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    const Vector factor = hn::Set(kFloats, factors[row]), step = hn::Set(kFloats, probabilities.step(row));
    HWY_UNROLL(16)
    for (int vector = 0; vector < kVectors; ++vector) {
      float* to = acc + static_cast<size_t>(row) * columns + column + static_cast<size_t>(vector) * kLanes;
      const Vector sum = hn::Mul(hn::ConvertTo(kFloats, sums.at[row][vector]), step);
      hn::StoreU(hn::MulAdd(load(to), factor, sum), kFloats, to);
    }
  }
}

// acc [M, columns] = acc * factor + P V; columns is a multiple of 16.
template <int M>
void add_q8_values(const ValueTile& tile, const float* factors, float* acc, size_t columns) {
  for (size_t first = 0; first < columns; first += kScaleBlock) {
    const size_t block = first / kScaleBlock;
    for (uint32_t row = 0; row < tile.rows; row += kPageRows) {
      const int8_t* ahead = static_cast<const int8_t*>(tile.ahead[row / kPageRows]);
      hwy::Prefetch(scales_of(ahead, static_cast<uint32_t>(columns)) + block * kPageRows);
    }
    const PackedProbabilities<M> probabilities(tile, columns, block);
    const size_t last = std::min(first + kScaleBlock, columns);
    for (size_t column = first; column < last; column += 16) {
      add_q8_panel<M>(tile, probabilities, factors, column, acc, columns);
    }
  }
}

template <int... kMinusOne>
constexpr ScoreTable q8_score_table(std::integer_sequence<int, kMinusOne...> /*sizes*/) {
  return {&score_q8_pages<kMinusOne + 1>...};
}
template <int... kMinusOne>
constexpr ValueTable q8_value_table(std::integer_sequence<int, kMinusOne...> /*sizes*/) {
  return {&add_q8_values<kMinusOne + 1>...};
}
constexpr ScoreTable kScoreQ8Pages = q8_score_table(BlockSizes());
constexpr ValueTable kAddQ8Values = q8_value_table(BlockSizes());

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#endif  // with vectors
#endif  // per target
