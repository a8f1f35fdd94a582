// What the tests of the program share: starting it on the toy model, its reports, texts.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/json.h"
#include "core/rng.h"
#include "program.h"
#include "talking_model.h"

namespace kvmerger::test {

// The command line of a command on the toy model, with one thread: tests share the machine.
inline std::vector<std::string> command_line(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), KVMERGER_BINARY);
  arguments.insert(arguments.end(), {"-m", talking_model(), "-t", "1"});
  return arguments;
}

inline Outcome kvmerger(const std::vector<std::string>& arguments, const Surroundings& surroundings = {}) {
  return run_program(command_line(arguments), surroundings);
}

// The report of a command that must succeed.
inline Json report_of(std::vector<std::string> arguments) {
  const TemporaryFolder folder;
  arguments.insert(arguments.end(), {"--report", folder.path("report.json")});
  const Outcome outcome = kvmerger(arguments);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return parse_json(read_file(folder.path("report.json")));
}

// Words of small letters, `bytes` in all, ending with a full stop.
inline std::string story(size_t bytes) {
  Rng rng(bytes);
  std::string text;
  while (text.size() + 1 < bytes) text += rng.below(6) == 0 ? ' ' : static_cast<char>('a' + rng.below(26));
  return text + ".";
}

}  // namespace kvmerger::test
