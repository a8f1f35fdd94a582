// y = x W^T for many tokens at once and weights of any number format: 16 outputs at a time are read into f32 and stay
// in the cache while all tokens pass. Reading costs as much as about 30 tokens do, so this is not for decoding.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger::kernels {

// W [outputs, inputs], rows one behind the other, in blocks of numbers.
struct WeightRows {
  const void* data;
  uint32_t outputs, inputs;  // inputs: a multiple of block_numbers
  size_t block_numbers;      // divides 64
  size_t block_bytes;
  void (*read)(const void* blocks, float* numbers, int64_t count);  // count: whole blocks
};

// Units of work for threads to share: 16 outputs each, the last one what is left.
uint32_t linear_units(const WeightRows& weights) noexcept;
// In floats, for one thread.
size_t linear_scratch(const WeightRows& weights) noexcept;
// The outputs of one unit in y [tokens, outputs], from x [tokens, inputs]. Every sum is over all inputs in order, so
// results do not depend on how units are shared.
void linear(const WeightRows& weights, uint32_t unit, const float* x, uint32_t tokens, float* y,
            float* scratch) noexcept;

}  // namespace kvmerger::kernels
