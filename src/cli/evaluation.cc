#include "cli/evaluation.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "core/shell.h"

namespace kvmerger::cli {
namespace {

namespace fs = std::filesystem;

// The path that the script prints.
std::string python_path(const std::string& script) {
  std::FILE* pipe = popen(shell_quoted(script).c_str(), "r");
  if (!pipe) throw Error(cat("cannot start ", script, ": ", std::strerror(errno)));
  std::string out;
  std::array<char, 4096> block;
  while (std::fgets(block.data(), block.size(), pipe)) out += block.data();
  if (pclose(pipe) != 0)
    throw Error(cat("there is no Python to score with: ", script, " failed; its message is above"));
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out.substr(out.rfind('\n') + 1);
}

}  // namespace

std::string evaluation_folder() {
  const char* named = std::getenv("KVMERGER_EVALUATION");
  return named && *named ? named : KVMERGER_EVALUATION_FOLDER;
}

void become_python(const std::string& program, const std::vector<std::string>& arguments) {
  const fs::path folder = fs::absolute(evaluation_folder());
  const fs::path script = folder.parent_path() / "tools" / "eval_python";
  for (const fs::path& needed : {folder / "kvmerger_eval", script}) {
    if (fs::exists(needed)) continue;
    throw Error(cat("scoring and reports need the source of kvmerger, and ", needed.string(),
                    " is not there; name its evaluation folder with the environment variable KVMERGER_EVALUATION"));
  }
  std::string python = python_path(script.string());
  const char* before = std::getenv("PYTHONPATH");
  setenv("PYTHONPATH", cat(folder.string(), before && *before ? ":" : "", before ? before : "").c_str(), 1);
  std::vector<std::string> words{python, "-m", "kvmerger_eval", program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  std::signal(SIGPIPE, SIG_DFL);  // as a program of its own would have it
  execv(python.c_str(), pointers.data());
  throw Error(cat("cannot start ", python, ": ", std::strerror(errno)));
}

}  // namespace kvmerger::cli
