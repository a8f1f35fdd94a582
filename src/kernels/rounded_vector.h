// One token's activations as ggml rounds them for products with quantised weights: blocks of 32 int8 and a scale.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger::kernels {

inline constexpr uint32_t kRoundedBlock = 32;  // numbers that share a scale

struct RoundedVector {
  const int8_t* numbers;  // [inputs] from -127 to 127, but -128 where ggml rounded what is not finite
  const float* scales;    // [blocks]
  const float* sums;      // [blocks] of the block's numbers; from Q8_1 times the scale, rounded as it is there
};

// In floats.
size_t rounded_vector_scratch(uint32_t inputs) noexcept;
// From ggml's blocks: the scale in f16, in Q8_1 the sum in f16, and 32 int8. inputs is a multiple of 32. What they
// return points into scratch.
RoundedVector read_q8_0(const void* blocks, uint32_t inputs, float* scratch) noexcept;
RoundedVector read_q8_1(const void* blocks, uint32_t inputs, float* scratch) noexcept;

}  // namespace kvmerger::kernels
