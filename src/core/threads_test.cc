#include "core/threads.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace kvmerger {
namespace {

TEST_CASE("every index is worked on once, for any number of threads") {
  for (uint32_t threads : {0U, 1U, 2U, 4U, 16U}) {
    for (uint32_t count : {0U, 1U, 2U, 3U, 100U, 1000U}) {
      std::vector<std::atomic<uint32_t>> calls(count);
      parallel_for(count, threads, [&](uint32_t index) { ++calls[index]; });
      CHECK(std::ranges::all_of(calls, [](const auto& call) { return call == 1; }));
    }
  }
}

TEST_CASE("as many threads as asked for work at once, the caller among them") {
  std::mutex mutex;
  std::set<std::thread::id> workers;
  std::atomic<uint32_t> waiting{0};
  parallel_for(8, 4, [&](uint32_t) {
    ++waiting;
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (waiting < 4 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // a fifth would take its chance
    const std::lock_guard lock(mutex);
    workers.insert(std::this_thread::get_id());
  });
  CHECK(workers.size() == 4);
  CHECK(workers.contains(std::this_thread::get_id()));
}

TEST_CASE("an exception comes out here, and what was not begun is skipped") {
  for (uint32_t threads : {1U, 4U}) {
    std::atomic<uint32_t> calls{0};
    const auto work = [&](uint32_t index) {
      ++calls;
      if (index == 3) throw std::runtime_error("three");
    };
    CHECK_THROWS_WITH_AS(parallel_for(1000000, threads, work), "three", std::runtime_error);
    CHECK(calls < 1000000);
  }
}

TEST_CASE("of several exceptions one comes out") {
  const auto work = [](uint32_t) { throw std::runtime_error("any"); };
  CHECK_THROWS_AS(parallel_for(64, 4, work), std::runtime_error);
}

}  // namespace
}  // namespace kvmerger
