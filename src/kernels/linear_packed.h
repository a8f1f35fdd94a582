// y = W x for one token and 4-bit weights that lie eight outputs side by side: decoding, bound by memory.
#pragma once

#include <cstdint>

#include "kernels/rounded_vector.h"

namespace kvmerger::kernels {

// W [outputs, inputs] in the layout ggml repacks Q4_0 to on x86-64 (its block_q4_0x8): for eight outputs and 32 inputs,
// eight f16 scales, then pieces of eight bytes, an output's each: inputs 0-7 in the lower halves of the bytes and 16-23
// in the upper ones, of all eight outputs, then inputs 8-15 and 24-31. Each half is a signed number.
struct PackedQ4 {
  const void* data;
  uint32_t outputs, inputs;  // multiples of 8 and of 32
};

// y[i], for `count` outputs from `first` on, both multiples of 8. x comes from Q8_0. With AVX2 to the bit what ggml
// computes from the same blocks, in about half the instructions; other targets have the reference only, as ggml has no
// such layout there.
void linear_packed(const PackedQ4& weights, uint32_t first, uint32_t count, const RoundedVector& x, float* y) noexcept;

}  // namespace kvmerger::kernels
