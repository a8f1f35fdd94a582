#include "core/work_shares.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <vector>

#include "core/threads.h"

namespace kvmerger {
namespace {

TEST_CASE("each thread gets consecutive units, and then the other half of somebody's") {
  WorkShares shares;
  shares.reset(7, 2);
  CHECK(shares.next(0) == 0);
  CHECK(shares.next(1) == 3);
  CHECK(shares.next(0) == 1);
  CHECK(shares.next(0) == 2);
  CHECK(shares.next(0) == 5);  // of 4, 5, 6
  CHECK(shares.next(0) == 6);
  CHECK(shares.next(0) == 4);
  CHECK(shares.next(0) == WorkShares::kNone);
  CHECK(shares.next(1) == WorkShares::kNone);
}

TEST_CASE("fewer units than threads, fewer threads than before, and no unit at all") {
  WorkShares shares;
  shares.reset(2, 3);
  CHECK(shares.next(1) == 0);
  CHECK(shares.next(2) == 1);
  for (uint32_t thread = 0; thread < 3; ++thread) CHECK(shares.next(thread) == WorkShares::kNone);
  shares.reset(8, 4);
  shares.reset(2, 2);
  CHECK(shares.next(1) == 1);
  CHECK(shares.next(1) == 0);
  CHECK(shares.next(1) == WorkShares::kNone);
  shares.reset(0, 4);
  for (uint32_t thread = 0; thread < 4; ++thread) CHECK(shares.next(thread) == WorkShares::kNone);
}

TEST_CASE("threads that work at once do every unit once") {
  constexpr uint32_t kThreads = 4, kUnits = 997;
  WorkShares shares;
  for (uint32_t round = 0; round < 200; ++round) {
    shares.reset(kUnits, kThreads);
    std::vector<std::atomic<uint32_t>> done(kUnits);
    std::latch all_here(kThreads);
    parallel_for(kThreads, kThreads, [&](uint32_t thread) {
      all_here.arrive_and_wait();
      for (uint32_t unit; (unit = shares.next(thread)) != WorkShares::kNone;) ++done[unit];
    });
    CHECK(std::all_of(done.begin(), done.end(), [](const auto& times) { return times == 1; }));
  }
}

}  // namespace
}  // namespace kvmerger
