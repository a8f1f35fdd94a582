#include "core/work_shares.h"

#include "core/error.h"

namespace kvmerger {

void WorkShares::reset(uint32_t units, uint32_t threads) {
  KVM_CHECK(threads > 0);
  if (threads > shares_.size()) shares_ = std::vector<Share>(threads);
  const auto begin_of = [&](uint64_t thread) { return static_cast<uint32_t>(units * thread / threads); };
  for (uint32_t thread = 0; thread < shares_.size(); ++thread) {
    shares_[thread].left = thread < threads ? Range{begin_of(thread), begin_of(thread + 1)} : Range{};
  }
}

uint32_t WorkShares::next(uint32_t thread) noexcept {
  // Of a share all but its owner take the end. Each change of a range gives out one of its units, so a range never
  // comes back, and comparing it tells whether anybody was here meanwhile.
  std::atomic<Range>& own = shares_[thread].left;
  for (Range left = own; left.begin < left.end;) {
    if (own.compare_exchange_weak(left, {left.begin + 1, left.end})) return left.begin;
  }
  for (;;) {
    Share* richest = nullptr;
    Range most;
    for (Share& share : shares_) {
      const Range left = share.left;
      if (left.end - left.begin > most.end - most.begin) richest = &share, most = left;
    }
    if (richest == nullptr) return kNone;
    const uint32_t middle = most.begin + (most.end - most.begin) / 2;
    if (!richest->left.compare_exchange_strong(most, {most.begin, middle})) continue;
    own = Range{middle + 1, most.end};
    return middle;
  }
}

}  // namespace kvmerger
