#include "program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/error.h"

namespace kvmerger::test {
namespace {

constexpr int kTurn = 5;  // milliseconds between two looks

void redirect(const std::string& path, int flags, int to) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, to) < 0) _exit(126);
  close(file);
}

void close_stdout() {
  int ends[2];
  if (pipe(ends) != 0 || dup2(ends[1], STDOUT_FILENO) < 0) _exit(126);
  close(ends[0]);
  close(ends[1]);
}

[[noreturn]] void become(const std::vector<std::string>& command, const Surroundings& surroundings,
                         const TemporaryFolder& folder, const std::string& cache) {
  redirect(folder.path("in"), O_RDONLY, STDIN_FILENO);
  if (surroundings.stdout_closed) {
    close_stdout();
  } else {
    redirect(folder.path("out"), O_WRONLY | O_CREAT | O_APPEND, STDOUT_FILENO);
  }
  redirect(folder.path("err"), O_WRONLY | O_CREAT | O_APPEND, STDERR_FILENO);
  setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  for (const auto& [name, value] : surroundings.variables) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = std::filesystem::temp_directory_path() / "kvmerger_test_XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw Error(cat("no temporary folder: ", std::strerror(errno)));
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::file(const std::string& name, const std::string& bytes) const {
  std::ofstream(path(name), std::ios::binary) << bytes;
  return path(name);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Program::Program(const std::vector<std::string>& command, const Surroundings& surroundings) {
  folder_.file("in", surroundings.input);
  static const TemporaryFolder cache;  // of all programs of this test run: they find each other's profiles
  const std::string cache_path = cache.path("cache");
  process_ = fork();
  if (process_ < 0) throw Error(cat("fork failed: ", std::strerror(errno)));
  if (process_ == 0) become(command, surroundings, folder_, cache_path);
}

Program::~Program() {
  if (done_) return;
  kill(process_, SIGKILL);
  waitpid(process_, &status_, 0);
}

bool Program::ended(int milliseconds) {
  for (int waited = 0; !done_; waited += kTurn) {
    done_ = waitpid(process_, &status_, WNOHANG) == process_;
    if (done_ || waited >= milliseconds) break;
    usleep(kTurn * 1000);
  }
  return done_;
}

bool Program::wait_for(const std::string& text, bool on_stderr) {
  for (int waited = 0; waited < 60'000; waited += kTurn) {
    if (read_file(folder_.path(on_stderr ? "err" : "out")).find(text) != std::string::npos) return true;
    if (ended(kTurn)) return false;
  }
  return false;
}

void Program::signal(int number) const { kill(process_, number); }

Outcome Program::wait() {
  if (!ended(120'000)) {
    kill(process_, SIGKILL);
    waitpid(process_, &status_, 0);
    done_ = true;
  }
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
  return {code, read_file(folder_.path("out")), read_file(folder_.path("err"))};
}

Outcome run_program(const std::vector<std::string>& command, const Surroundings& surroundings) {
  return Program(command, surroundings).wait();
}

}  // namespace kvmerger::test
