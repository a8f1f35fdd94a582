#include "engine/machine.h"

#include "kernels/attention.h"
#include "kv/pool.h"

namespace kvmerger::engine {

std::string simd_target() {
  kernels::check_target();
  return kernels::target_name();
}

size_t available_memory() { return kv::available_memory(); }

}  // namespace kvmerger::engine
