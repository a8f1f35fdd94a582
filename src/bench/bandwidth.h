// How fast this machine reads memory: what decoding is measured against.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger::bench {

inline constexpr size_t kBandwidthBytes = size_t{256} << 20;  // more than the caches of most machines

// Bytes per second that so many threads together read from a buffer of `bytes`; the best of a few passes. Throws
// std::bad_alloc when there is no memory for the buffer.
double read_bandwidth(uint32_t threads, size_t bytes = kBandwidthBytes);

}  // namespace kvmerger::bench
