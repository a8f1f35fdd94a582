// Reading memory and doing nothing else: the bound of all that reads more than the caches hold.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger {

inline constexpr size_t kReadStep = 256;

// Reads `bytes` (rounded down to whole steps) as fast as one core can. The sum of what it read is there so that
// compilers do not leave the reading out.
uint64_t read_memory(const std::byte* begin, size_t bytes);

}  // namespace kvmerger
