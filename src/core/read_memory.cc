#include "core/read_memory.h"

#include <cstring>

namespace kvmerger {
namespace {

// As wide as any register; the compiler makes two or four loads of it where they are narrower, which memory cannot
// keep up with either.
using Wide = uint64_t __attribute__((vector_size(64)));
constexpr size_t kAtOnce = 4;  // sums, so that none waits for the one before

}  // namespace

uint64_t read_memory(const std::byte* begin, size_t bytes) {
  Wide sums[kAtOnce] = {};
  static_assert(kReadStep == kAtOnce * sizeof(Wide));
  for (size_t at = 0; at + kReadStep <= bytes; at += kReadStep) {
    for (size_t lane = 0; lane < kAtOnce; ++lane) {
      Wide value;
      std::memcpy(&value, begin + at + lane * sizeof(Wide), sizeof(Wide));
      sums[lane] += value;
    }
  }
  const Wide all = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t total = 0;
  for (size_t lane = 0; lane < sizeof(Wide) / sizeof(uint64_t); ++lane) total += all[lane];
  return total;
}

}  // namespace kvmerger
