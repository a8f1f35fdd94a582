#include "kernels/linear.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/products-inl.h"

#ifndef KVMERGER_KERNELS_LINEAR_CC
#define KVMERGER_KERNELS_LINEAR_CC
namespace kvmerger::kernels {
namespace {

constexpr uint32_t kUnit = 16;  // outputs: one panel

// The numbers of one output from input `first` on.
void read_row(const WeightRows& w, uint32_t output, uint32_t first, uint32_t count, float* to) {
  const size_t block = (size_t{output} * w.inputs + first) / w.block_numbers;
  w.read(static_cast<const char*>(w.data) + block * w.block_bytes, to, count);
}

}  // namespace
}  // namespace kvmerger::kernels
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void linear_target(const WeightRows& w, uint32_t first, uint32_t outputs, const float* x, uint32_t tokens, float* y,
                   float* row) {
  for (uint32_t output = first; output < first + outputs; ++output) {
    read_row(w, output, 0, w.inputs, row);
    for (uint32_t token = 0; token < tokens; ++token) {
      const float* from = x + size_t{token} * w.inputs;
      float sum = 0.0F;
      for (uint32_t input = 0; input < w.inputs; ++input) sum += from[input] * row[input];
      y[size_t{token} * w.outputs + output] = sum;
    }
  }
}

#else

// The panel [inputs, 16] of outputs side by side, zeros behind the last.
void read_panel(const WeightRows& w, uint32_t first, uint32_t outputs, float* panel) {
  constexpr uint32_t kPiece = 64;  // inputs: a piece of all outputs stays in the first cache while it is turned
  for (uint32_t input = 0; input < w.inputs; input += kPiece, panel += size_t{kPiece} * kUnit) {
    const uint32_t count = std::min(kPiece, w.inputs - input);
    for (uint32_t output = 0; output < kUnit; ++output) {
      float piece[kPiece] = {};
      if (output < outputs) read_row(w, first + output, input, count, piece);
      for (uint32_t at = 0; at < count; ++at) panel[size_t{at} * kUnit + output] = piece[at];
    }
  }
}

// y [M, outputs], rows y_row apart, = x [M, inputs] times the panel.
template <int M>
void multiply_block(const float* x, uint32_t inputs, const float* panel, uint32_t outputs, float* y, size_t y_row) {
  Sums<M, 1> sums;
  sums.template multiply_add<1, 1>(x, inputs, inputs, {panel}, {panel}, kUnit);
  HWY_ALIGN float row_sums[kUnit];
  HWY_UNROLL(16)  // or the sums are in memory from the beginning
  for (int row = 0; row < M; ++row, y += y_row) {
    sums.store(row, row_sums);
    std::copy_n(row_sums, outputs, y);
  }
}

using MultiplyBlock = void (*)(const float*, uint32_t, const float*, uint32_t, float*, size_t);

template <int... kMinusOne>
constexpr std::array<MultiplyBlock, kMaxBlock> block_table(std::integer_sequence<int, kMinusOne...>) {
  return {&multiply_block<kMinusOne + 1>...};
}
// By tokens of the block, minus one.
constexpr std::array<MultiplyBlock, kMaxBlock> kMultiplyBlock =
    block_table(std::make_integer_sequence<int, kMaxBlock>());

void linear_target(const WeightRows& w, uint32_t first, uint32_t outputs, const float* x, uint32_t tokens, float* y,
                   float* panel) {
  read_panel(w, first, outputs, panel);
  for (uint32_t token = 0; token < tokens; token += kMaxBlock) {
    const uint32_t count = std::min(kMaxBlock, tokens - token);
    kMultiplyBlock[count - 1](x + size_t{token} * w.inputs, w.inputs, panel, outputs,
                              y + size_t{token} * w.outputs + first, w.outputs);
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvmerger::kernels {
namespace {

HWY_EXPORT(linear_target);

}  // namespace

uint32_t linear_units(const WeightRows& weights) noexcept { return (weights.outputs + kUnit - 1) / kUnit; }

size_t linear_scratch(const WeightRows& weights) noexcept {
  return size_t{kUnit} * weights.inputs + kAlignment / sizeof(float);
}

void linear(const WeightRows& weights, uint32_t unit, const float* x, uint32_t tokens, float* y,
            float* scratch) noexcept {
  choose_target();
  const uint32_t first = unit * kUnit, outputs = std::min(kUnit, weights.outputs - first);
  HWY_DYNAMIC_DISPATCH(linear_target)(weights, first, outputs, x, tokens, y, aligned(scratch));
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
