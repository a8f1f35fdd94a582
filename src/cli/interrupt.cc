#include "cli/interrupt.h"

#include <atomic>
#include <csignal>

namespace kvmerger::cli {
namespace {

std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);  // or a handler could not touch it

void note(int number) { g_signal = number; }

}  // namespace

void catch_interrupts() {
  struct sigaction action{};
  action.sa_handler = &note;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second one finds the default; no SA_RESTART: reads return
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool interrupted() noexcept { return g_signal != 0; }
int interrupted_code() noexcept { return 128 + g_signal; }

bool forget_ctrl_c() {
  if (g_signal != SIGINT) return false;
  g_signal = 0;
  catch_interrupts();
  return true;
}

}  // namespace kvmerger::cli
