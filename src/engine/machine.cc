#include "engine/machine.h"

#include "kernels/attention.h"

namespace kvmerger::engine {

std::string simd_target() {
  kernels::check_target();
  return kernels::target_name();
}

}  // namespace kvmerger::engine
