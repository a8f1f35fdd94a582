// Numbers as people read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvmerger::cli {

std::string fixed(double value, int digits);
std::string thousands(uint64_t value);                  // 8,192
std::string bytes_text(size_t bytes);                   // 512 B, 45.0 KiB, 12.3 MiB, 1.50 GiB
std::string seconds_text(double seconds);               // 0.043 s, 12.3 s, 4:05 min
std::string rate_text(uint64_t count, double seconds);  // "53.1 t/s", or "-" when nothing was measured
std::string share_text(double share);                   // 35.0%
double rate(uint64_t count, double seconds);            // 0 when nothing was measured

}  // namespace kvmerger::cli
