#include "cli/load.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/clock.h"
#include "core/error.h"
#include "core/folders.h"

namespace kvmerger::cli {
namespace {

constexpr const char* kDefaultModel = "SmolLM2-135M-Instruct.Q4_1.gguf";

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

std::string default_model_path() { return cat(cache_folder(), "/models/", kDefaultModel); }

Loaded load_model(const std::string& path, model::WeightLayout layout) {
  const auto start = Clock::now();
  const std::string file = path.empty() ? default_model_path() : path;
  if (path.empty() && !exists(file)) {
    throw Error(cat("the default model is not there (", file,
                    "); get it with tools/fetch_model or `make demo`, or name a GGUF "
                    "file with -m"));
  }
  Loaded loaded;
  loaded.model = std::make_shared<const model::Model>(file, layout);
  loaded.tokenizer = std::make_unique<text::Tokenizer>(file);
  loaded.seconds = seconds_since(start);
  return loaded;
}

void check_writable(const std::string& path, const std::string& flag) {
  if (path.empty()) return;
  struct stat facts{};
  const bool there = stat(path.c_str(), &facts) == 0;
  if (there && !S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode)) return;  // a device or pipe: opening it has effects
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) throw Error(cat("cannot write ", path, " (", flag, "): ", std::strerror(errno)));
  ::close(file);
  if (!there) ::unlink(path.c_str());
}

void write_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const bool written = file && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = file && std::fclose(file) == 0;
  if (!written || !closed) throw Error(cat("cannot write ", path, ": ", std::strerror(errno)));
}

}  // namespace kvmerger::cli
