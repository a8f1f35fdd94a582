#include "core/log.h"

#include <atomic>
#include <cstdio>

namespace kvmerger {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kInfo};

void print(LogLevel level, const char* prefix, std::string_view message) {
  if (log_level() < level) return;
  std::fprintf(stderr, "%s%.*s\n", prefix, static_cast<int>(message.size()), message.data());
}

}  // namespace

void set_log_level(LogLevel level) noexcept { g_level = level; }
LogLevel log_level() noexcept { return g_level; }

void log_warn(std::string_view message) { print(LogLevel::kWarn, "warning: ", message); }
void log_info(std::string_view message) { print(LogLevel::kInfo, "", message); }
void log_debug(std::string_view message) { print(LogLevel::kDebug, "", message); }

}  // namespace kvmerger
