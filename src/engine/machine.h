// What the engine runs on, for banners and reports.
#pragma once

#include <string>

namespace kvmerger::engine {

// The instruction set of the kernels, e.g. "AVX2". Throws Error when KVMERGER_TARGET names none of this machine's.
std::string simd_target();

}  // namespace kvmerger::engine
