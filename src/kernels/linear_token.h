// y = W x for one token and quantised weights: decoding, bound by memory.
#pragma once

#include <cstdint>

#include "kernels/rounded_vector.h"

namespace kvmerger::kernels {

// How 32 inputs of an output lie, and the blocks that x has to come from.
enum class TokenFormat : uint8_t {
  // An output's scale and minimum in f16, then 16 bytes: inputs 0-15 in the lower halves, 16-31 in the upper ones, from
  // 0 to 15. Q8_1.
  kQ4_1,
  // An output's scale in f16, then 32 int8. Q8_0.
  kQ8_0,
  // As ggml repacks Q4_0 (its block_q4_0x8): eight outputs' scales in f16, then eight bytes of each output with inputs
  // 0-7 in the lower halves and 16-23 in the upper ones, then the same of inputs 8-15 and 24-31. Signed. Q8_0.
  kPackedQ4,
};

// W [outputs, inputs].
struct TokenWeights {
  const void* data;
  uint32_t inputs;  // a multiple of 32
  TokenFormat format;
};

// Whether the target has more than the reference: with AVX2 and better.
bool linear_token_is_fast() noexcept;

// y[i] of y [outputs], for `count` outputs from `first` on; of kPackedQ4 both must be multiples of 8. With AVX2 to the
// bit what ggml computes from the same blocks (kQ4_1: when its compiler makes one FMA of a product and a sum, as GCC
// does unless told not to).
void linear_token(const TokenWeights& weights, uint32_t first, uint32_t count, const RoundedVector& x,
                  float* y) noexcept;

}  // namespace kvmerger::kernels
