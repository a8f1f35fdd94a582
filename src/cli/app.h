// The program: command line to command, errors to messages and exit codes.
#pragma once

#include <string>
#include <vector>

namespace kvmerger::cli {

// arguments: without the program's name. Exit codes: 0 done; 1 the world is wrong (file, model, memory, closed stdout);
// 2 wrong usage; 128 + signal when interrupted.
int run_program(const std::vector<std::string>& arguments);

}  // namespace kvmerger::cli
