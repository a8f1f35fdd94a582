// Units of work that threads do together. Each thread begins with a share of consecutive units, so that what it reads
// goes on where it was, and takes half of what another has left when its own are done. Knows not what a unit is.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace kvmerger {

class WorkShares {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // Units 0 .. units - 1 for `threads` threads. Not while anybody calls next. Allocates when there are more threads
  // than ever before.
  void reset(uint32_t units, uint32_t threads);
  // The unit that this thread is to do next, every unit once; kNone when all are done or another thread's to do.
  uint32_t next(uint32_t thread) noexcept;

 private:
  struct Range {
    uint32_t begin = 0, end = 0;
  };
  struct alignas(64) Share {  // a cache line each, for threads not to wait for one another
    std::atomic<Range> left;
  };
  static_assert(std::atomic<Range>::is_always_lock_free);

  std::vector<Share> shares_;
};

}  // namespace kvmerger
