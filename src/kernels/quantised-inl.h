// The two matrix products of attention over q8_0 pages, in integers: queries and probabilities are rounded to int16, so
// that one instruction multiplies and adds pairs of them (pmaddwd on x86, vpdpwssd with VNNI). Less arithmetic than
// converting the cache to f32, and 2^-16 of the largest number is far below what q8_0 itself rounds. To be included
// after Highway, for every target; empty for those without vectors.
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

// Panels worked on at once: with vectors of 512 bits one panel has too few sums to fill the cycles that one takes.
constexpr int pair_panels_at_once(int queries) { return kVectors == 1 ? panels_at_once(queries) : 1; }

// sum + the products of two pairs in each lane.
HWY_INLINE IntegerVector add_pair_products(IntegerVector sum, ShortVector a, ShortVector b) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL  // Highway 1.0 has no name for it, and its target lacks the flag
  asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
  return sum;
#else
  IntegerVector high = hn::Zero(kIntegers);
  const IntegerVector low = hn::ReorderWidenMulAccumulate(kIntegers, a, b, high, high);
  return hn::Add(sum, hn::RearrangeToOddPlusEven(low, high));
#endif
}

// M sums of the columns of P panels, 16 each. += left pair of each row times a step of a panel.
template <int M, int P>
struct PairSums {
  IntegerVector at[M][P * kVectors];

  HWY_INLINE PairSums() {
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      HWY_UNROLL(16)
      for (int vector = 0; vector < P * kVectors; ++vector) at[row][vector] = hn::Zero(kIntegers);
    }
  }

  // kSteps of them, the first at `offset` of each panel; what step s multiplies by in row r is at s * stride +
  // r * row_stride of left, in 32 bits. Meanwhile `ahead`, panels needed later, come into the cache.
  template <size_t kSteps, class Left>
  HWY_INLINE void add(const int8_t* const (&panel)[P], const int8_t* const (&ahead)[P], size_t offset, const Left* left,
                      size_t stride, size_t row_stride) {
    HWY_UNROLL(16)
    for (size_t step = 0; step < kSteps; ++step) {
      ShortVector right[P * kVectors];
      HWY_UNROLL(16)
      for (size_t index = 0; index < P; ++index) {
        const size_t here = offset + step * kPairBytes;
        if (step % (kLineBytes / kPairBytes) == 0) fetch(ahead[index] + here);
        HWY_UNROLL(16)
        for (size_t vector = 0; vector < kVectors; ++vector) {
          const hn::Rebind<int8_t, Shorts> bytes;
          const auto stored = hn::LoadU(bytes, panel[index] + here + vector * 2 * kLanes);
          right[index * kVectors + vector] = hn::PromoteTo(kShorts, stored);
        }
      }
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) {
        const ShortVector pair = hn::BitCast(
            kShorts,
            hn::Set(hn::Rebind<Left, Integers>(), left[step * stride + static_cast<size_t>(row) * row_stride]));
        HWY_UNROLL(16)
        for (int vector = 0; vector < P * kVectors; ++vector) {
          at[row][vector] = add_pair_products(at[row][vector], pair, right[vector]);
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
      for (int vector = 0; vector < P * kVectors; ++vector) asm("" : "+v"(at[row][vector].raw));
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

// logits [M, kTileRows], columns of P pages = queries packed by pack_q8_queries * keys.
template <int M, int P>
HWY_INLINE void score_q8_panels(const float* packed, uint32_t head_dim, const TilePages& pages, uint32_t first_page,
                                float* logits) {
  const int8_t *keys[P], *ahead[P];
  const Half* scales[P];
  for (uint32_t page = 0; page < P; ++page) {
    keys[page] = keys_of<int8_t>(pages.here[first_page + page]);
    ahead[page] = keys_of<int8_t>(pages.ahead[first_page + page]);
    scales[page] = scales_of(keys[page], head_dim);
    for (uint32_t dim = 0; dim < head_dim; dim += 2 * kScaleBlock) {  // a line holds the scales of two blocks
      fetch(ahead[page] + size_t{kPageRows} * head_dim + dim);
    }
  }
  Vector found[M][P * kVectors];
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) found[row][vector] = hn::Zero(kFloats);
  }
  const auto add_block = [&](const PairSums<M, P>& sums, size_t block) HWY_ATTR {
    HWY_UNROLL(16)
    for (size_t vector = 0; vector < P * kVectors; ++vector) {
      const Vector scale = load(scales[vector / kVectors] + block * kPageRows + vector % kVectors * kLanes);
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) {
        const Vector step = hn::Mul(scale, hn::Set(kFloats, packed[row]));
        found[row][vector] = hn::MulAdd(hn::ConvertTo(kFloats, sums.at[row][vector]), step, found[row][vector]);
      }
    }
    packed += M;
  };
  uint32_t first = 0;
  for (; first + kScaleBlock <= head_dim; first += kScaleBlock) {
    PairSums<M, P> sums;
    sums.template add<kScaleBlock / 2>(keys, ahead, size_t{first} * kPageRows, packed, M, 1);
    packed += size_t{kScaleBlock / 2} * M;
    add_block(sums, first / kScaleBlock);
  }
  if (first < head_dim) {
    PairSums<M, P> sums;
    for (uint32_t dim = first; dim < head_dim; dim += 2, packed += M) {
      sums.template add<1>(keys, ahead, size_t{dim} * kPageRows, packed, M, 1);
    }
    add_block(sums, first / kScaleBlock);
  }
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) {
      hn::StoreU(found[row][vector], kFloats, logits + row * kTileRows + first_page * kPageRows + vector * kLanes);
    }
  }
}

template <int M>
void score_q8_pages(const float* packed, uint32_t head_dim, const TilePages& pages, uint32_t count, float* logits) {
  constexpr uint32_t kPanels = pair_panels_at_once(M);
  uint32_t page = 0;
  for (; page + kPanels <= count; page += kPanels) score_q8_panels<M, kPanels>(packed, head_dim, pages, page, logits);
  for (; page < count; ++page) score_q8_panels<M, 1>(packed, head_dim, pages, page, logits);
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
      fetch(scales_of(values_of<int8_t>(tile.pages.ahead[page]), columns) + first);
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

// acc [M, columns of P panels] = acc * factor + P V, from column on, a multiple of 16.
template <int M, int P>
HWY_INLINE void add_q8_panels(const ValueTile& tile, const PackedProbabilities<M>& probabilities, const float* factors,
                              size_t column, float* acc, size_t columns) {
  PairSums<M, P> sums;
  const size_t pages = pages_of(tile.rows);
  for (size_t page = 0; page < pages; ++page) {
    const int8_t *panel[P], *ahead[P];
    for (size_t index = 0; index < P; ++index) {
      const size_t first = (column + index * 16) * kPageRows;
      panel[index] = values_of<int8_t>(tile.pages.here[page]) + first;
      ahead[index] = values_of<int8_t>(tile.pages.ahead[page]) + first;
    }
    const int32_t* left = probabilities.pairs(page);
    HWY_UNROLL(1)
    for (uint32_t pair = 0; pair < kPairs; pair += 4) {
      sums.template add<4>(panel, ahead, size_t{pair} * kPairBytes, left + pair, 1, kTileRows / 2);
    }
  }
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    const Vector factor = hn::Set(kFloats, factors[row]), step = hn::Set(kFloats, probabilities.step(row));
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) {
      float* to = acc + static_cast<size_t>(row) * columns + column + static_cast<size_t>(vector) * kLanes;
      const Vector sum = hn::Mul(hn::ConvertTo(kFloats, sums.at[row][vector]), step);
      hn::StoreU(hn::MulAdd(load(to), factor, sum), kFloats, to);
    }
  }
}

// acc [M, columns] = acc * factor + P V; columns is a multiple of 16.
template <int M>
void add_q8_values(const ValueTile& tile, const float* factors, float* acc, size_t columns) {
  constexpr size_t kColumns = std::min<size_t>(pair_panels_at_once(M) * 16, kScaleBlock);
  for (size_t first = 0; first < columns; first += kScaleBlock) {
    const PackedProbabilities<M> probabilities(tile, columns, first / kScaleBlock);
    const size_t last = std::min(first + kScaleBlock, columns);
    size_t column = first;
    for (; column + kColumns <= last; column += kColumns) {
      add_q8_panels<M, kColumns / 16>(tile, probabilities, factors, column, acc, columns);
    }
    for (; column < last; column += 16) add_q8_panels<M, 1>(tile, probabilities, factors, column, acc, columns);
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
