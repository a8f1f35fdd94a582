// One line on the terminal while something long runs. Silent on pipes and with --quiet.
#pragma once

#include <cstdint>
#include <string>

#include "core/clock.h"
#include "engine/session.h"

namespace kvmerger::cli {

class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress();  // wipes the line

  void show(uint32_t done, uint32_t total);  // tokens, share, tokens per second, time left
  void say(const std::string& text);         // the line without figures
  engine::RunHooks hooks();                  // shows progress, and stops on interrupts

 private:
  std::string what_;
  bool enabled_, shown_ = false;
  Clock::time_point start_ = Clock::now();
};

// Tells of each piece of work that is done, as [1/8], and how long the others will take.
class Countdown {
 public:
  explicit Countdown(size_t pieces) : pieces_(pieces) {}
  void say(const std::string& what);

 private:
  size_t pieces_, done_ = 0;
  Clock::time_point start_ = Clock::now();
};

}  // namespace kvmerger::cli
