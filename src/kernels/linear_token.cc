#include "kernels/linear_token.h"

#include <algorithm>
#include <cstring>

#include "kernels/dispatch.h"
#include "kernels/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_token.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef KVMERGER_KERNELS_LINEAR_TOKEN_CC
#define KVMERGER_KERNELS_LINEAR_TOKEN_CC
namespace kvmerger::kernels {
namespace {

constexpr uint32_t kBlock = kRoundedBlock;
constexpr size_t block_bytes(TokenFormat format) { return format == TokenFormat::kQ4_1 ? 2 + 2 + 16 : 2 + 32; }

constexpr uint32_t kGroup = 8;     // outputs that kPackedQ4 has side by side
constexpr size_t kHalfBytes = 64;  // of a block's weights: inputs 0-7 and 16-23 of all outputs, or the others
constexpr size_t kPackedBytes = kGroup * sizeof(uint16_t) + 2 * kHalfBytes;
constexpr size_t kPieceBytes = 8;
constexpr uint8_t kToUnsigned = 0x88;  // turns the halves of a byte from -8..7 to 0..15
constexpr float kOffset = 8;           // that much each

constexpr size_t kAhead = 4096;  // bytes: the machine's own prefetching stops at the ends of pages

}  // namespace
}  // namespace kvmerger::kernels
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2  // and better; Highway 1.0 has no product of bytes

constexpr bool kFast = true;

HWY_INLINE __m256i bytes_at(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

HWY_INLINE float sum_of(__m256 lanes) {  // in ggml's order
  const __m128 four = _mm_add_ps(_mm256_extractf128_ps(lanes, 1), _mm256_castps256_ps128(lanes));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// A block's products with x, in eight sums. unsigned_numbers times numbers is at most 2 x 128 x 127 in 16 bits.
HWY_INLINE __m256 eight_sums(__m256i unsigned_numbers, __m256i numbers) {
  const __m256i pairs = _mm256_maddubs_epi16(unsigned_numbers, numbers);
  return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

template <class T>
HWY_INLINE T read(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Scales of up to four rows, and minima where there are, side by side. Inserted in a register: a load behind four
// smaller stores would wait for them.
template <TokenFormat kFormat, int M>
HWY_INLINE __m256 scales_of(const uint8_t* block, size_t row_bytes) {
  const auto next = [&](int row) { return block + static_cast<size_t>(std::min(row, M - 1)) * row_bytes; };
  __m128i halves;
  if constexpr (kFormat == TokenFormat::kQ4_1) {
    halves = _mm_setr_epi32(read<int>(next(0)), read<int>(next(1)), read<int>(next(2)), read<int>(next(3)));
  } else {
    halves = _mm_setr_epi16(read<int16_t>(next(0)), read<int16_t>(next(1)), read<int16_t>(next(2)),
                            read<int16_t>(next(3)), 0, 0, 0, 0);
  }
  return _mm256_cvtph_ps(halves);
}

// M rows from `block` on.
template <TokenFormat kFormat, int M>
HWY_INLINE void some_rows(const uint8_t* block, size_t row_bytes, uint32_t blocks, const RoundedVector& x, float* y) {
  constexpr bool kMinima = kFormat == TokenFormat::kQ4_1;
  const __m256i shifts = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4), low = _mm256_set1_epi8(15);
  __m256 sums[M], minima = _mm256_setzero_ps();  // minima: in odd lanes
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  constexpr size_t kStep = M * block_bytes(kFormat);
  const uint8_t* ahead = block + kAhead;
  for (uint32_t at = 0; at < blocks; ++at, block += block_bytes(kFormat), ahead += kStep) {
    for (size_t line = 0; line < kStep; line += 64) hwy::Prefetch(ahead + line);
    const __m256i numbers = bytes_at(x.numbers + size_t{at} * kBlock);
    const __m256 stored = scales_of<kFormat, M>(block, row_bytes);
    alignas(32) float scales[8];
    _mm256_store_ps(scales, _mm256_mul_ps(stored, _mm256_set1_ps(x.scales[at])));
    asm("" : "+m"(scales));  // or compilers keep them in a register and take them out by shuffles, which costs a fifth
    if (kMinima) minima = _mm256_fmadd_ps(stored, _mm256_set1_ps(x.sums[at]), minima);
    HWY_UNROLL(4)
    for (int row = 0; row < M; ++row) {
      const uint8_t* from = block + static_cast<size_t>(row) * row_bytes;
      __m256 products;
      if constexpr (kMinima) {
        const __m256i pairs = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 4)));
        products = eight_sums(_mm256_and_si256(_mm256_srlv_epi32(pairs, shifts), low), numbers);
      } else {
        const __m256i weights = bytes_at(from + 2);
        products = eight_sums(_mm256_abs_epi8(weights), _mm256_sign_epi8(numbers, weights));
      }
      sums[row] = _mm256_fmadd_ps(_mm256_set1_ps(scales[kMinima ? 2 * row : row]), products, sums[row]);
    }
  }
  alignas(32) float all_minima[8];
  _mm256_store_ps(all_minima, minima);
  for (int row = 0; row < M; ++row) y[row] = sum_of(sums[row]) + (kMinima ? all_minima[2 * row + 1] : 0.0F);
}

template <TokenFormat kFormat>
void rows_target(const uint8_t* rows, uint32_t inputs, uint32_t count, const RoundedVector& x, float* y) {
  const uint32_t blocks = inputs / kBlock;
  const size_t row_bytes = blocks * block_bytes(kFormat);
  uint32_t row = 0;
  for (; row + 4 <= count; row += 4) some_rows<kFormat, 4>(rows + row * row_bytes, row_bytes, blocks, x, y + row);
  for (; row < count; ++row) some_rows<kFormat, 1>(rows + row * row_bytes, row_bytes, blocks, x, y + row);
}

// Products of four outputs with a block's numbers, in two sums each.
HWY_INLINE __m256i two_sums(const uint8_t* weights, const int8_t* numbers) {
  const auto piece = [&](size_t index) HWY_ATTR {
    long long eight;
    std::memcpy(&eight, numbers + index * kPieceBytes, sizeof eight);
    return _mm256_set1_epi64x(eight);
  };
  const auto unsigned_pairs = [&](size_t half) HWY_ATTR {
    return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + half * kHalfBytes)),
                            _mm256_set1_epi8(static_cast<char>(kToUnsigned)));
  };
  const auto lower = [](__m256i pairs) HWY_ATTR { return _mm256_and_si256(pairs, _mm256_set1_epi8(15)); };
  const auto upper = [&](__m256i pairs) HWY_ATTR { return lower(_mm256_srli_epi16(pairs, 4)); };
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

constexpr bool kFast = false;

template <TokenFormat kFormat>
void rows_target(const uint8_t* block, uint32_t inputs, uint32_t count, const RoundedVector& x, float* y) {
  for (uint32_t row = 0; row < count; ++row) {
    y[row] = 0.0F;
    for (uint32_t at = 0; at < inputs / kBlock; ++at, block += block_bytes(kFormat)) {
      const int8_t* numbers = x.numbers + size_t{at} * kBlock;
      int32_t sum = 0;
      for (uint32_t input = 0; input < kBlock; ++input) {
        const uint32_t byte = input % 16, shift = input / 16 * 4;
        sum += numbers[input] * (kFormat == TokenFormat::kQ4_1 ? (block[4 + byte] >> shift) & 15
                                                               : static_cast<int8_t>(block[2 + input]));
      }
      y[row] += half_at(block) * x.scales[at] * static_cast<float>(sum);
      if (kFormat == TokenFormat::kQ4_1) y[row] += half_at(block + 2) * x.sums[at];
    }
  }
}

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
      y[output] +=
          half_at(block + output * sizeof(uint16_t)) * x.scales[at] * (static_cast<float>(sum) - kOffset * x.sums[at]);
    }
  }
}

#endif

bool is_fast_target() { return kFast; }

void groups_target(const uint8_t* group, uint32_t inputs, uint32_t count, const RoundedVector& x, float* y) {
  const size_t group_bytes = size_t{inputs} / kBlock * kPackedBytes;
  for (uint32_t at = 0; at < count; at += kGroup, group += group_bytes) group_target(group, inputs, x, y + at);
}

void linear_token_target(const TokenWeights& w, uint32_t first, uint32_t count, const RoundedVector& x, float* y) {
  const auto* data = static_cast<const uint8_t*>(w.data);
  const size_t blocks = w.inputs / kBlock;
  if (w.format == TokenFormat::kPackedQ4) {
    return groups_target(data + first / kGroup * blocks * kPackedBytes, w.inputs, count, x, y + first);
  }
  const uint8_t* rows = data + first * blocks * block_bytes(w.format);
  if (w.format == TokenFormat::kQ4_1) return rows_target<TokenFormat::kQ4_1>(rows, w.inputs, count, x, y + first);
  rows_target<TokenFormat::kQ8_0>(rows, w.inputs, count, x, y + first);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvmerger::kernels {
namespace {

HWY_EXPORT(is_fast_target);
HWY_EXPORT(linear_token_target);

}  // namespace

bool linear_token_is_fast() noexcept {
  choose_target();
  return HWY_DYNAMIC_DISPATCH(is_fast_target)();
}

void linear_token(const TokenWeights& weights, uint32_t first, uint32_t count, const RoundedVector& x,
                  float* y) noexcept {
  choose_target();
  HWY_DYNAMIC_DISPATCH(linear_token_target)(weights, first, count, x, y);
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
