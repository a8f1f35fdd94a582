#include "bench/bandwidth.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "core/clock.h"
#include "core/read_memory.h"
#include "core/threads.h"

namespace kvmerger::bench {
namespace {

constexpr uint32_t kPasses = 5;
constexpr uint32_t kReads = 4;  // of the buffer in one pass, so that starting threads does not count

}  // namespace

double read_bandwidth(uint32_t threads, size_t bytes) {
  const size_t part = bytes / threads / kReadStep * kReadStep;
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(part * threads);
  const auto piece = [&](uint32_t thread) { return buffer.get() + thread * part; };
  parallel_for(threads, threads, [&](uint32_t thread) { std::memset(piece(thread), 1, part); });
  std::vector<uint64_t> sums(threads);
  double best = 0.0;
  for (uint32_t pass = 0; pass < kPasses; ++pass) {
    const Clock::time_point start = Clock::now();
    parallel_for(threads, threads, [&](uint32_t thread) {
      for (uint32_t read = 0; read < kReads; ++read) sums[thread] += read_memory(piece(thread), part);
    });
    best = std::max(best, static_cast<double>(part * threads * kReads) / seconds_since(start));
  }
  volatile uint64_t seen = 0;
  for (const uint64_t value : sums) seen = seen + value;
  return best;
}

}  // namespace kvmerger::bench
