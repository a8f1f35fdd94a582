#include "cli/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "cli/format.h"
#include "cli/interrupt.h"
#include "core/error.h"
#include "core/log.h"

namespace kvmerger::cli {
namespace {

constexpr uint32_t kBar = 20;  // characters

}  // namespace

Progress::Progress(std::string what)
    : what_(std::move(what)), enabled_(isatty(STDERR_FILENO) != 0 && log_level() >= LogLevel::kInfo) {}

Progress::~Progress() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

void Progress::say(const std::string& text) {
  if (!enabled_) return;
  std::fprintf(stderr, "\r\033[K%s", text.c_str());
  std::fflush(stderr);
  shown_ = true;
}

void Progress::show(uint32_t done, uint32_t total) {
  if (!enabled_ || total == 0) return;
  const double seconds = seconds_since(start_);
  const double share = static_cast<double>(done) / total;
  const uint32_t filled = static_cast<uint32_t>(share * kBar);
  const std::string left = done > 0 ? fixed(std::ceil(seconds * (1 / share - 1)), 0) + " s left" : "";
  say(cat(what_, " [", std::string(filled, '#'), std::string(kBar - filled, '.'), "] ", thousands(done), " / ",
          thousands(total), "  ", fixed(100 * share, 0), "%  ", rate_text(done, seconds), "  ", left));
}

engine::RunHooks Progress::hooks() {
  return {[this](uint32_t done, uint32_t total) { show(done, total); }, [] { return interrupted(); }};
}

void Countdown::say(const std::string& what) {
  ++done_;
  const double seconds = seconds_since(start_);
  const double left = seconds / static_cast<double>(done_) * static_cast<double>(pieces_ - done_);
  log_info(cat("[", done_, "/", pieces_, "] ", what, "  (about ", seconds_text(left), " left)"));
}

}  // namespace kvmerger::cli
