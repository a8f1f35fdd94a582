#include "kernels/rounded_vector.h"

#include <cstring>
#include <numeric>

#include "kernels/half.h"

namespace kvmerger::kernels {
namespace {

RoundedVector read(const void* blocks, size_t count, bool with_sums, float* scratch) {
  float *scales = scratch, *sums = scales + count;
  auto* numbers = reinterpret_cast<int8_t*>(sums + count);
  const auto* from = static_cast<const uint8_t*>(blocks);
  for (size_t at = 0; at < count; ++at, from += kRoundedBlock) {
    scales[at] = half_at(from);
    from += sizeof(uint16_t);
    if (with_sums) {
      sums[at] = half_at(from);
      from += sizeof(uint16_t);
    }
    int8_t* block = numbers + at * kRoundedBlock;
    std::memcpy(block, from, kRoundedBlock);
    if (!with_sums) sums[at] = static_cast<float>(std::accumulate(block, block + kRoundedBlock, 0));
  }
  return {.numbers = numbers, .scales = scales, .sums = sums};
}

}  // namespace

size_t rounded_vector_scratch(uint32_t inputs) noexcept {
  return inputs / sizeof(float) + 2 * (inputs / kRoundedBlock);
}

RoundedVector read_q8_0(const void* blocks, uint32_t inputs, float* scratch) noexcept {
  return read(blocks, inputs / kRoundedBlock, false, scratch);
}

RoundedVector read_q8_1(const void* blocks, uint32_t inputs, float* scratch) noexcept {
  return read(blocks, inputs / kRoundedBlock, true, scratch);
}

}  // namespace kvmerger::kernels
