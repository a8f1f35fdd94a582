#include "kernels/linear_packed.h"

#include <cstring>

#include "kernels/dispatch.h"
#include "kernels/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_packed.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef KVMERGER_KERNELS_LINEAR_PACKED_CC
#define KVMERGER_KERNELS_LINEAR_PACKED_CC
namespace kvmerger::kernels {
namespace {

constexpr uint32_t kGroup = 8;  // outputs side by side
constexpr uint32_t kBlock = 32;
constexpr size_t kHalfBytes = 64;  // of a block's weights: inputs 0-7 and 16-23 of all outputs, or the others
constexpr size_t kPackedBytes = kGroup * sizeof(uint16_t) + 2 * kHalfBytes;
constexpr size_t kPieceBytes = 8;
constexpr uint8_t kToUnsigned = 0x88;  // turns the halves of a byte from -8..7 to 0..15
constexpr float kOffset = 8;           // that much each
constexpr size_t kAhead = 4096;        // bytes: the machine's own prefetching stops at the ends of pages

}  // namespace
}  // namespace kvmerger::kernels
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2  // and better; Highway has no product of bytes

// Products of four outputs with a block's numbers, in two sums each.
HWY_INLINE __m256i two_sums(const uint8_t* weights, const int8_t* numbers) {
  const auto piece = [&](size_t index) {
    long long eight;
    std::memcpy(&eight, numbers + index * kPieceBytes, sizeof eight);
    return _mm256_set1_epi64x(eight);
  };
  const auto unsigned_pairs = [&](size_t half) {
    return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + half * kHalfBytes)),
                            _mm256_set1_epi8(static_cast<char>(kToUnsigned)));
  };
  const auto lower = [](__m256i pairs) { return _mm256_and_si256(pairs, _mm256_set1_epi8(15)); };
  const auto upper = [&](__m256i pairs) { return lower(_mm256_srli_epi16(pairs, 4)); };
  const __m256i first = unsigned_pairs(0), second = unsigned_pairs(1);
  // At most 4 x 2 x 15 x 127, in 16 bits.
  const __m256i lower_sum =
      _mm256_add_epi16(_mm256_maddubs_epi16(lower(first), piece(0)), _mm256_maddubs_epi16(lower(second), piece(1)));
  const __m256i upper_sum =
      _mm256_add_epi16(_mm256_maddubs_epi16(upper(first), piece(2)), _mm256_maddubs_epi16(upper(second), piece(3)));
  return _mm256_madd_epi16(_mm256_add_epi16(lower_sum, upper_sum), _mm256_set1_epi16(1));
}

void group_target(const uint8_t* block, uint32_t inputs, const RoundedVector& x, float* y) {
  __m256 sums = _mm256_setzero_ps();  // outputs 0, 4, 1, 5, 2, 6, 3, 7
  for (uint32_t at = 0; at < inputs / kBlock; ++at, block += kPackedBytes) {
    for (size_t line = 0; line < kPackedBytes; line += 64) hwy::Prefetch(block + kAhead + line);
    const uint8_t* weights = block + kGroup * sizeof(uint16_t);
    const __m256i low = two_sums(weights, x.numbers + size_t{at} * kBlock);  // outputs 0 to 3
    const __m256i high = two_sums(weights + kHalfBytes / 2, x.numbers + size_t{at} * kBlock);
    constexpr int kOdd = 0xaa, kSwapPairs = 0xb1;
    const __m256i sum = _mm256_add_epi32(_mm256_blend_epi32(low, high, kOdd),
                                         _mm256_shuffle_epi32(_mm256_blend_epi32(high, low, kOdd), kSwapPairs));
    const __m256 exact = _mm256_sub_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(kOffset * x.sums[at]));
    const __m128i in_order = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block));
    const __m256 scales = _mm256_cvtph_ps(_mm_unpacklo_epi16(in_order, _mm_unpackhi_epi64(in_order, in_order)));
    sums = _mm256_fmadd_ps(exact, _mm256_mul_ps(scales, _mm256_set1_ps(x.scales[at])), sums);
  }
  _mm256_storeu_ps(y, _mm256_permutevar8x32_ps(sums, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)));
}

#else

void group_target(const uint8_t* block, uint32_t inputs, const RoundedVector& x, float* y) {
  for (uint32_t output = 0; output < kGroup; ++output) y[output] = 0.0F;
  for (uint32_t at = 0; at < inputs / kBlock; ++at, block += kPackedBytes) {
    const int8_t* numbers = x.numbers + size_t{at} * kBlock;
    for (uint32_t output = 0; output < kGroup; ++output) {
      int32_t sum = 0;
      for (size_t input = 0; input < kBlock / 2; ++input) {
        const size_t piece = input / kPieceBytes * kGroup + output;
        const int pair = block[kGroup * sizeof(uint16_t) + piece * kPieceBytes + input % kPieceBytes] ^ kToUnsigned;
        sum += (pair & 15) * numbers[input] + (pair >> 4) * numbers[input + kBlock / 2];
      }
      uint16_t scale;
      std::memcpy(&scale, block + output * sizeof scale, sizeof scale);
      y[output] += float_from_half(scale) * x.scales[at] * (static_cast<float>(sum) - kOffset * x.sums[at]);
    }
  }
}

#endif

void linear_packed_target(const PackedQ4& w, uint32_t first, uint32_t count, const RoundedVector& x, float* y) {
  const size_t group_bytes = size_t{w.inputs} / kBlock * kPackedBytes;
  const uint8_t* group = static_cast<const uint8_t*>(w.data) + first / kGroup * group_bytes;
  for (uint32_t output = first; output < first + count; output += kGroup, group += group_bytes) {
    group_target(group, w.inputs, x, y + output);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvmerger::kernels {
namespace {

HWY_EXPORT(linear_packed_target);

}  // namespace

void linear_packed(const PackedQ4& weights, uint32_t first, uint32_t count, const RoundedVector& x, float* y) noexcept {
  choose_target();
  HWY_DYNAMIC_DISPATCH(linear_packed_target)(weights, first, count, x, y);
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
