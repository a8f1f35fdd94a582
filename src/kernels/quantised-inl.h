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
HWY_INLINE const Half* scales_of(const int8_t* part, size_t head_dim) {
  return reinterpret_cast<const Half*>(part + kPageRows * head_dim);
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
      if (step % (kLineBytes / kPairBytes) == 0) hwy::Prefetch(ahead + step * kPairBytes);
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
  const Half* scales = scales_of(keys, head_dim);
  const int8_t* scales_ahead = ahead + size_t{kPageRows} * head_dim;
  Vector found[M][kVectors];
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    HWY_UNROLL(16)
    for (int vector = 0; vector < kVectors; ++vector) found[row][vector] = hn::Zero(kFloats);
  }
  const auto add_block = [&](const PairSums<M>& sums, uint32_t pairs) HWY_ATTR {
    packed += size_t{pairs} * M, keys += pairs * kPairBytes, ahead += pairs * kPairBytes;
    HWY_UNROLL(16)
    for (int vector = 0; vector < kVectors; ++vector) {
      const Vector scale = load(scales + static_cast<size_t>(vector) * kLanes);
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) {
        const Vector step = hn::Mul(scale, hn::Set(kFloats, packed[row]));
        found[row][vector] = hn::MulAdd(hn::ConvertTo(kFloats, sums.at[row][vector]), step, found[row][vector]);
      }
    }
    packed += M, scales += kPageRows;
  };
  for (uint32_t dim = 0; dim < head_dim; dim += 2 * kScaleBlock) {  // a line holds the scales of two blocks
    hwy::Prefetch(scales_ahead + dim);
  }
  uint32_t first = 0;
  for (; first + kScaleBlock <= head_dim; first += kScaleBlock) {
    PairSums<M> sums;
    sums.template add<kScaleBlock / 2>(keys, ahead, packed, M, 1);
    add_block(sums, kScaleBlock / 2);
  }
  if (first < head_dim) {
    PairSums<M> sums;
    const uint32_t pairs = (head_dim - first) / 2;
    for (size_t pair = 0; pair < pairs; ++pair) {
      sums.template add<1>(keys + pair * kPairBytes, ahead + pair * kPairBytes, packed + pair * M, M, 1);
    }
    add_block(sums, pairs);
  }
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    HWY_UNROLL(16)
    for (int vector = 0; vector < kVectors; ++vector) {
      hn::StoreU(found[row][vector], kFloats, logits + row * kTileRows + vector * kLanes);
    }
  }
}

template <int M>
void score_q8_pages(const float* packed, uint32_t head_dim, const TilePages& pages, uint32_t count, float* logits) {
  for (uint32_t page = 0; page < count; ++page) {
    score_q8_page<M>(packed, head_dim, keys_of<int8_t>(pages.here[page]), keys_of<int8_t>(pages.ahead[page]),
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
    HWY_ALIGN float products[M][kTileRows];
    Slots most[M];
    HWY_UNROLL(16)
    for (size_t row = 0; row < M; ++row) most[row] = hn::Set(kSlots, 1e-30f);  // more than 0, to divide by
    const size_t pages = pages_of(tile.rows), first = block * kPageRows;
    for (size_t page = 0; page < pages; ++page) {
      const Half* scales = scales_of(values_of<int8_t>(tile.pages.here[page]), columns) + first;
      hwy::Prefetch(scales_of(values_of<int8_t>(tile.pages.ahead[page]), columns) + first);
      HWY_UNROLL(16)
      for (size_t slot = 0; slot < kPageRows; slot += kSlotLanes) {
        const Slots scale = hn::PromoteTo(kSlots, hn::LoadU(hn::Rebind<Half, SlotTag>(), scales + slot));
        HWY_UNROLL(16)
        for (size_t row = 0; row < M; ++row) {
          const float* probability = tile.probabilities + row * kTileRows + page * kPageRows + slot;
          const Slots product = hn::Mul(scale, hn::LoadU(kSlots, probability));
          hn::Store(product, kSlots, products[row] + page * kPageRows + slot);
          most[row] = hn::Max(most[row], product);
        }
      }
    }
    Slots inverse[M];
    HWY_UNROLL(16)
    for (size_t row = 0; row < M; ++row) {
      const Slots largest = hn::MaxOfLanes(kSlots, most[row]);
      steps_[row] = hn::GetLane(largest) * (1 / kMostSteps);
      inverse[row] = hn::Div(hn::Set(kSlots, kMostSteps), largest);
    }
    for (size_t page = 0; page < pages; ++page) {
      HWY_UNROLL(16)
      for (size_t slot = 0; slot < kPairs; slot += kSlotLanes) {
        HWY_UNROLL(16)
        for (size_t row = 0; row < M; ++row) {
          const float* from = products[row] + page * kPageRows + slot;
          const auto even = rounded(from, inverse[row]);
          const auto odd = hn::ShiftLeft<16>(rounded(from + kPairs, inverse[row]));
          const hn::Repartition<int16_t, SlotTag> shorts;
          hn::Store(hn::BitCast(kSlotIntegers, hn::OddEven(hn::BitCast(shorts, odd), hn::BitCast(shorts, even))),
                    kSlotIntegers, pairs_[row] + page * kPairs + slot);
        }
      }
    }
  }

  const int32_t* pairs(size_t page) const { return pairs_[0] + page * kPairs; }
  float step(int row) const { return steps_[row]; }

 private:
  using SlotTag = hn::CappedTag<float, kPairs>;
  using Slots = hn::Vec<SlotTag>;
  static constexpr SlotTag kSlots{};
  static constexpr hn::RebindToSigned<SlotTag> kSlotIntegers{};
  static constexpr uint32_t kSlotLanes = hn::MaxLanes(kSlots);

  // Whole steps of a product, in the low 16 bits.
  static HWY_INLINE auto rounded(const float* product, Slots inverse) {
    const Slots magic = hn::Set(kSlots, 0x1p23f);  // adding it rounds to a whole number
    return hn::BitCast(kSlotIntegers, hn::MulAdd(hn::Load(kSlots, product), inverse, magic));
  }

  HWY_ALIGN int32_t pairs_[M][kTileRows / 2];
  float steps_[M];
};

// acc [M, 16 columns] = acc * factor + P V, from column on, a multiple of 16.
template <int M>
HWY_INLINE void add_q8_panel(const ValueTile& tile, const PackedProbabilities<M>& probabilities, const float* factors,
                             size_t column, float* acc, size_t columns) {
  PairSums<M> sums;
  const size_t pages = pages_of(tile.rows);
  for (size_t page = 0; page < pages; ++page) {
    const int8_t* panel = values_of<int8_t>(tile.pages.here[page]) + column * kPageRows;
    const int8_t* ahead = values_of<int8_t>(tile.pages.ahead[page]) + column * kPageRows;
    const int32_t* left = probabilities.pairs(page);
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
    const PackedProbabilities<M> probabilities(tile, columns, first / kScaleBlock);
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
