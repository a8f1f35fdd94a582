// Talk for people, on stderr. stdout belongs to the answer.
#pragma once

#include <string_view>

namespace kvmerger {

enum class LogLevel { kQuiet, kWarn, kInfo, kDebug };

void set_log_level(LogLevel level) noexcept;
LogLevel log_level() noexcept;

void log_warn(std::string_view message);  // "warning: ..."
void log_info(std::string_view message);
void log_debug(std::string_view message);

}  // namespace kvmerger
