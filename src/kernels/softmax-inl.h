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
// e^x for x <= 0 within 2 units in the last place; 0 below -87.3, where e^x would be subnormal.
HWY_INLINE Vector exp_of_negative(Vector x) {
  const Vector magic = hn::Set(kFloats, 0x1.8p23f);  // adding it rounds to a whole number, found in the low bits
  const Vector shifted = hn::MulAdd(x, hn::Set(kFloats, 0x1.715476p+0f), magic);
  const Vector whole = hn::Sub(shifted, magic);
  const Vector rest = hn::NegMulAdd(whole, hn::Set(kFloats, 0x1.7f7d1cp-20f),  // ln 2 in two parts
                                    hn::NegMulAdd(whole, hn::Set(kFloats, 0x1.62e4p-1f), x));
  const Vector square = hn::Mul(rest, rest);
  const Vector high = hn::MulAdd(hn::Set(kFloats, 0x1.0e4020p-7f), rest, hn::Set(kFloats, 0x1.573e2ep-5f));
  const Vector middle = hn::MulAdd(hn::Set(kFloats, 0x1.555e66p-3f), rest, hn::Set(kFloats, 0x1.fffdb6p-2f));
  const Vector low = hn::Mul(hn::Set(kFloats, 0x1.ffffecp-1f), rest);
  const Vector fraction = hn::MulAdd(hn::MulAdd(high, square, middle), square, low);  // e^rest - 1
  const hn::RebindToSigned<Floats> integers;
  const Vector power = hn::BitCast(kFloats, hn::Add(hn::ShiftLeft<23>(hn::BitCast(integers, shifted)),
                                                    hn::BitCast(integers, hn::Set(kFloats, 1.0f))));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(kFloats, -87.3f)), hn::MulAdd(power, fraction, power));
}

// Columns that a query sees of a tile, as masks.
HWY_INLINE hn::Mask<Floats> seen_mask(uint32_t column, uint32_t seen) {
  return hn::FirstN(kFloats, std::min(seen - std::min(column, seen), kLanes));
}

// Largest of one query's logits [columns].
HWY_INLINE float largest_logit(const float* logits, uint32_t columns) {
  Vector largest = load(logits);
  for (uint32_t column = kLanes; column < columns; column += kLanes) largest = hn::Max(largest, load(logits + column));
  return hn::GetLane(hn::MaxOfLanes(kFloats, largest));
}

// Adds biases to one query's logits [pages * 16], holds them within the limit and hides the columns from `seen` on.
HWY_INLINE void finish_logits(float* logits, uint32_t pages, uint32_t seen, const float* const* bias) {
  const Vector limit = hn::Set(kFloats, kLogitLimit);
  const Vector hidden = hn::Set(kFloats, std::numeric_limits<float>::lowest());
  for (uint32_t page = 0; page < pages; ++page) {
    for (uint32_t lane = 0; lane < kPageRows; lane += kLanes) {
      const uint32_t column = page * kPageRows + lane;
      Vector logit = load(logits + column);
      if (bias[page] != nullptr) logit = hn::Add(logit, load(bias[page] + lane));
      logit = hn::Max(hn::Min(logit, limit), hn::Neg(limit));
      if (column + kLanes > seen) logit = hn::IfThenElse(seen_mask(column, seen), logit, hidden);
      hn::StoreU(logit, kFloats, logits + column);
    }
  }
}

// Running state of one query.
struct Running {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

// One query's logits of a tile become exp(logit - running maximum). Returns the factor for what was summed before.
HWY_INLINE float softmax_tile(float* logits, uint32_t pages, uint32_t seen, bool biased, const float* const* bias,
                              Running& running) {
  const uint32_t columns = pages * kPageRows;
  if (seen == 0) {
    std::fill_n(logits, columns, 0.0f);
    return 1.0f;
  }
  float largest = kLogitLimit * 2;
  if (!biased && seen >= columns) largest = largest_logit(logits, columns);
  // Columns that are all seen and not beyond the limit, the usual case, are ready as they are.
  if (!(std::abs(largest) <= kLogitLimit)) {
    finish_logits(logits, pages, seen, bias);
    largest = largest_logit(logits, columns);
  }
  const float before = running.max;
  running.max = std::max(before, largest);
  const Vector max = hn::Set(kFloats, running.max);
  Vector sum = hn::Zero(kFloats);
  for (uint32_t page = 0; page < columns; page += kPageRows) {
    HWY_UNROLL(16)
    for (uint32_t lane = 0; lane < kPageRows; lane += kLanes) {
      const Vector probability = exp_of_negative(hn::Sub(load(logits + page + lane), max));
      hn::StoreU(probability, kFloats, logits + page + lane);
      sum = hn::Add(sum, probability);
    }
  }
  const float factor = before == running.max ? 1.0f : std::exp(before - running.max);
  running.sum = running.sum * factor + hn::GetLane(hn::SumOfLanes(kFloats, sum));
  return factor;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#endif  // with vectors
#endif  // per target
