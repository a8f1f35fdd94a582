// What the machine is, and the most memory this process has held.
#pragma once

#include <cstddef>
#include <string>

namespace kvmerger::bench {

std::string cpu_name();  // as the system calls it; "unknown" where it does not say

size_t peak_memory();  // bytes
// From here on the peak counts anew, where the system allows that (Linux does); elsewhere it stays that of the whole
// run.
void reset_peak_memory();

}  // namespace kvmerger::bench
