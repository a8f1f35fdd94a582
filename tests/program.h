// Runs the program as a shell would: arguments, stdin, environment; its output, exit code, and signals in between.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace kvmerger::test {

// A folder that is removed, with what is in it, at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  std::string path(const std::string& name) const { return path_ + "/" + name; }
  // Writes a file there and returns its path.
  std::string file(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

std::string read_file(const std::string& path);  // "" when it is not there

struct Outcome {
  int code;  // exit code, or minus the signal that ended it
  std::string out, err;
};

struct Surroundings {
  std::string input;                                           // on stdin
  std::vector<std::pair<std::string, std::string>> variables;  // added to the environment
  bool stdout_closed = false;                                  // stdout is a pipe that nobody reads
};

// A program that runs beside the test.
class Program {
 public:
  explicit Program(const std::vector<std::string>& command, const Surroundings& surroundings = {});
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();  // kills it if it still runs

  // Waits until stdout or stderr holds the text; false when the program ended or a minute passed before.
  bool wait_for(const std::string& text, bool on_stderr);
  void signal(int number) const;
  Outcome wait();  // at most two minutes, then it is killed

 private:
  bool ended(int milliseconds);

  TemporaryFolder folder_;
  pid_t process_ = -1;
  int status_ = 0;
  bool done_ = false;
};

Outcome run_program(const std::vector<std::string>& command, const Surroundings& surroundings = {});

}  // namespace kvmerger::test
