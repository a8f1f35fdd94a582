#include "cli/format.h"

#include <array>
#include <cstdio>

namespace kvmerger::cli {

std::string fixed(double value, int digits) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string thousands(uint64_t value) {
  std::string text = std::to_string(value);
  for (size_t place = text.size(); place > 3;) text.insert(place -= 3, ",");
  return text;
}

std::string bytes_text(size_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes < 1024) return std::to_string(bytes) + " B";
  if (value < 1024.0 * 1024) return fixed(value / 1024, 1) + " KiB";
  if (value < 1024.0 * 1024 * 1024) return fixed(value / (1024.0 * 1024), 1) + " MiB";
  return fixed(value / (1024.0 * 1024 * 1024), 2) + " GiB";
}

std::string seconds_text(double seconds) {
  if (seconds < 10) return fixed(seconds, seconds < 1 ? 3 : 2) + " s";
  if (seconds < 120) return fixed(seconds, 1) + " s";
  const uint64_t whole = static_cast<uint64_t>(seconds + 0.5), rest = whole % 60;
  return std::to_string(whole / 60) + (rest < 10 ? ":0" : ":") + std::to_string(rest) + " min";
}

double rate(uint64_t count, double seconds) {
  return count > 0 && seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
}

std::string rate_text(uint64_t count, double seconds) {
  const double value = rate(count, seconds);
  return value > 0 ? fixed(value, value < 100 ? 1 : 0) + " t/s" : "-";
}

std::string share_text(double share) { return fixed(100 * share, 1) + "%"; }

}  // namespace kvmerger::cli
