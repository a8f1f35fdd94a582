// Ctrl-C and termination: the first signal asks the work to stop, the second kills the program at once.
#pragma once

namespace kvmerger::cli {

void catch_interrupts();  // SIGINT and SIGTERM; also ignores SIGPIPE (writes to stdout are checked instead)
bool interrupted() noexcept;
int interrupted_code() noexcept;  // exit code of a program ended so: 128 + the signal's number
bool forget_ctrl_c();  // after SIGINT: forgets it, so that the next signal counts as first again; false after SIGTERM

}  // namespace kvmerger::cli
