#include "bench/bandwidth.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "core/clock.h"
#include "core/threads.h"

namespace kvmerger::bench {
namespace {

constexpr uint32_t kPasses = 5;
constexpr uint32_t kReads = 4;  // of the buffer in one pass, so that starting threads does not count

// As wide as any register; the compiler makes two or four loads of it where they are narrower, which memory cannot
// keep up with either.
using Wide = uint64_t __attribute__((vector_size(64)));
constexpr size_t kAtOnce = 4 * sizeof(Wide);  // four sums, so that none waits for the one before

// The sum only keeps the compiler from leaving the reading out.
uint64_t sum(const std::byte* begin, size_t bytes) {
  Wide sums[4] = {};
  for (size_t at = 0; at + kAtOnce <= bytes; at += kAtOnce) {
    for (size_t lane = 0; lane < 4; ++lane) {
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

}  // namespace

double read_bandwidth(uint32_t threads, size_t bytes) {
  const size_t part = bytes / threads / kAtOnce * kAtOnce;
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(part * threads);
  const auto piece = [&](uint32_t thread) { return buffer.get() + thread * part; };
  parallel_for(threads, threads, [&](uint32_t thread) { std::memset(piece(thread), 1, part); });
  std::vector<uint64_t> sums(threads);
  double best = 0.0;
  for (uint32_t pass = 0; pass < kPasses; ++pass) {
    const Clock::time_point start = Clock::now();
    parallel_for(threads, threads, [&](uint32_t thread) {
      for (uint32_t read = 0; read < kReads; ++read) sums[thread] += sum(piece(thread), part);
    });
    best = std::max(best, static_cast<double>(part * threads * kReads) / seconds_since(start));
  }
  volatile uint64_t seen = 0;
  for (const uint64_t value : sums) seen = seen + value;
  return best;
}

}  // namespace kvmerger::bench
