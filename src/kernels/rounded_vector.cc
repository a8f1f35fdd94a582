#include "kernels/rounded_vector.h"

#include <cstring>
#include <numeric>

#include "kernels/half.h"

namespace kvmerger::kernels {
namespace {

constexpr size_t kBlock = 32;

float read_half(const uint8_t* from) {
  uint16_t half;
  std::memcpy(&half, from, sizeof half);
  return float_from_half(half);
}

RoundedVector read(const void* blocks, size_t count, bool with_sums, float* scratch) {
  float *scales = scratch, *sums = scales + count;
  auto* numbers = reinterpret_cast<int8_t*>(sums + count);
  const auto* from = static_cast<const uint8_t*>(blocks);
  for (size_t at = 0; at < count; ++at, from += kBlock) {
    scales[at] = read_half(from);
    from += sizeof(uint16_t);
    if (with_sums) {
      sums[at] = read_half(from);
      from += sizeof(uint16_t);
    }
    int8_t* block = numbers + at * kBlock;
    std::memcpy(block, from, kBlock);
    if (!with_sums) sums[at] = static_cast<float>(std::accumulate(block, block + kBlock, 0));
  }
  return {.numbers = numbers, .scales = scales, .sums = sums};
}

}  // namespace

size_t rounded_vector_scratch(uint32_t inputs) noexcept { return inputs / sizeof(float) + 2 * (inputs / kBlock); }

RoundedVector read_q8_0(const void* blocks, uint32_t inputs, float* scratch) noexcept {
  return read(blocks, inputs / kBlock, false, scratch);
}

RoundedVector read_q8_1(const void* blocks, uint32_t inputs, float* scratch) noexcept {
  return read(blocks, inputs / kBlock, true, scratch);
}

}  // namespace kvmerger::kernels
