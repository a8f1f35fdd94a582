// y = W x for one token and 4-bit weights that lie eight outputs side by side: decoding, bound by memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger::kernels {

// W [outputs, inputs] in the layout ggml repacks Q4_0 to on x86-64 (its block_q4_0x8): for eight outputs and 32 inputs,
// eight f16 scales, then pieces of eight bytes, an output's each: inputs 0-7 in the lower halves of the bytes and 16-23
// in the upper ones, of all eight outputs, then inputs 8-15 and 24-31. Each half is a signed number.
struct PackedQ4 {
  const void* data;
  uint32_t outputs, inputs;  // multiples of 8 and of 32
};

// x rounded to eight bits in blocks of 32.
struct RoundedVector {
  const int8_t* numbers;   // from -127 to 127
  const float* scales;     // [blocks]
  const int32_t* offsets;  // [blocks] 8 times the sum of the block's numbers
};

// In floats.
size_t rounded_vector_scratch(uint32_t inputs);
// From ggml's Q8_0 blocks: an f16 scale and 32 int8 each. Points into scratch.
RoundedVector read_q8_0(const void* blocks, uint32_t inputs, float* scratch);

// y[i], for `count` outputs from `first` on, both multiples of 8. With AVX2 to the bit what ggml computes from
// the same blocks, in about half the instructions; other targets have the reference only, as ggml has no such layout there.
void linear_q4(const PackedQ4& weights, uint32_t first, uint32_t count, const RoundedVector& x, float* y) noexcept;

}  // namespace kvmerger::kernels
