// What the engine runs on, for banners and reports.
#pragma once

#include <cstddef>
#include <string>

namespace kvmerger::engine {

// The instruction set of the kernels, e.g. "AVX2". Throws Error when KVMERGER_TARGET names none of this machine's.
std::string simd_target();

// Bytes this process may still take: the machine's available memory, or what its control group leaves.
size_t available_memory();

}  // namespace kvmerger::engine
