// y = W x for one token and quantised weights as files have them, row by row: decoding. Four rows go by at once, which
// share what is read of x.
#pragma once

#include <cstdint>

#include "kernels/rounded_vector.h"

namespace kvmerger::kernels {

// ggml's blocks of 32 inputs. kQ4_1: scale and minimum in f16, then 16 bytes, inputs 0-15 in the lower halves and 16-31
// in the upper ones, from 0 to 15. kQ8_0: scale in f16, then 32 int8.
enum class RowFormat : uint8_t { kQ4_1, kQ8_0 };

// W [outputs, inputs].
struct QuantisedRows {
  const void* data;
  uint32_t inputs;  // a multiple of 32
  RowFormat format;
};

// y[i], for `count` outputs from `first` on. x comes from Q8_1 for kQ4_1, from Q8_0 for kQ8_0. With AVX2 to the bit
// what ggml computes from the same blocks; other targets have the reference only.
void linear_rows(const QuantisedRows& weights, uint32_t first, uint32_t count, const RoundedVector& x,
                 float* y) noexcept;

}  // namespace kvmerger::kernels
