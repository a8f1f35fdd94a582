// Parallel loops for work between graph runs. Inside a graph run the threads are ggml's.
#pragma once

#include <cstdint>
#include <functional>

namespace kvmerger {

// Calls work(index) for every index below count on up to `threads` threads; returns when all are done. The first
// exception is rethrown here; indices not yet begun are then skipped.
void parallel_for(uint32_t count, uint32_t threads, const std::function<void(uint32_t)>& work);

}  // namespace kvmerger
