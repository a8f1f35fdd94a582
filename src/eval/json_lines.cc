#include "eval/json_lines.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/log.h"
#include "core/shell.h"

namespace kvmerger::eval {
namespace {

Error cannot(const char* what, const std::string& path) {
  return Error(cat("cannot ", what, " ", path, ": ", std::strerror(errno)));
}

Error taken(const std::string& path) {
  return Error(cat("another run is writing to ", path, ", or has since this one began; wait for it and start again"));
}

// The lines of a plain or compressed file.
class Lines {
 public:
  explicit Lines(const std::string& path) : path_(path), packed_(path.ends_with(".gz")) {
    if (access(path.c_str(), R_OK) != 0) throw cannot("read", path);
    file_ = packed_ ? popen(cat("gzip -dc < ", shell_quoted(path)).c_str(), "r") : std::fopen(path.c_str(), "rb");
    if (!file_) throw cannot("read", path);
  }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;
  ~Lines() {
    if (file_) close();
    std::free(line_);
  }

  bool next(std::string_view& line) {
    const ssize_t length = getline(&line_, &capacity_, file_);
    if (length < 0) return false;
    line = std::string_view(line_, static_cast<size_t>(length));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
    return true;
  }
  // Throws Error when the file could not be read to its end.
  void finish() {
    const bool failed = std::ferror(file_) != 0;
    const int status = close();
    file_ = nullptr;
    if (failed) throw cannot("read", path_);
    if (status != 0) throw Error(cat("cannot unpack ", path_, " with gzip; its message is above"));
  }

 private:
  int close() { return packed_ ? pclose(file_) : std::fclose(file_); }

  std::string path_;
  bool packed_;
  std::FILE* file_ = nullptr;
  char* line_ = nullptr;
  size_t capacity_ = 0;
};

Json parse_object(std::string_view line) {
  Json json = parse_json(line);
  if (!json.get<Json::Object>()) throw Error("a JSON object was expected");
  return json;
}

}  // namespace

const Json* find_member(const Json& object, std::string_view key) {
  const Json::Object* members = object.get<Json::Object>();
  if (!members) return nullptr;
  for (const auto& [name, member] : *members) {
    if (name == key) return member.get<std::nullptr_t>() ? nullptr : &member;
  }
  return nullptr;
}

void read_json_lines(const std::string& path, const std::function<bool(const Json&, size_t line)>& use) {
  Lines lines(path);
  bool more = true;
  std::string_view line;
  for (size_t number = 1; lines.next(line); ++number) {  // to the end: gzip would complain of being cut off
    if (!more || line.find_first_not_of(" \t") == std::string_view::npos) continue;
    try {
      more = use(parse_object(line), number);
    } catch (const Error& error) {
      throw Error(cat(path, ":", number, ": ", error.what()));
    }
  }
  lines.finish();
}

ResultsRead read_results(const std::string& path, std::string_view begin, const std::function<void(const Json&)>& use) {
  ResultsRead read;
  size_t lines = 0;
  if (!std::filesystem::exists(path)) return read;
  const std::string bytes = read_file(path);
  for (size_t end; (end = bytes.find('\n', read.whole)) != std::string::npos; read.whole = end + 1) {
    ++lines;
    try {
      use(parse_object(std::string_view(bytes).substr(read.whole, end - read.whole)));
    } catch (const Error& error) {
      throw Error(cat(path, ":", lines, ": this is no line of results (", error.what(),
                      "); name another place with -o, or delete the line"));
    }
  }
  read.size = bytes.size();
  const std::string_view rest = std::string_view(bytes).substr(read.whole);
  if (rest.substr(0, begin.size()) != begin.substr(0, rest.size())) {
    throw Error(cat(path, ":", lines + 1, ": this is no line of results; name another place with -o"));
  }
  return read;
}

ResultsWriter::ResultsWriter(const std::string& path, const ResultsRead& read)
    : path_(path), read_(read), file_(std::fopen(path.c_str(), "ab"), &std::fclose) {
  if (!file_) throw cannot("write", path);
  if (flock(fileno(file_.get()), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) throw taken(path);
  check_size();  // some file systems have no locks
  if (!read.damaged()) return;
  log_warn(cat("the last line of ", path, " is not whole, as of an interrupted write; it is dropped"));
}

void ResultsWriter::check_size() const {
  struct stat now{};
  if (fstat(fileno(file_.get()), &now) != 0) throw cannot("write", path_);
  if (static_cast<size_t>(now.st_size) != read_.size) throw taken(path_);
}

void ResultsWriter::write(const Json& json) {
  if (read_.damaged()) {
    check_size();
    if (ftruncate(fileno(file_.get()), static_cast<off_t>(read_.whole)) != 0) throw cannot("write", path_);
    read_.size = read_.whole;
  }
  const std::string line = dump_json(json, -1) + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size();
  if (!written || std::fflush(file_.get()) != 0) throw cannot("write", path_);
}

void write_atomically(const std::string& path, const std::string& bytes) {
  const std::string aside = path + ".new";
  std::FILE* file = std::fopen(aside.c_str(), "wb");
  const bool written = file && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  const bool closed = file && std::fclose(file) == 0;
  if (!written || !closed || std::rename(aside.c_str(), path.c_str()) != 0) {
    const Error error = cannot("write", path);
    std::remove(aside.c_str());
    throw error;
  }
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw cannot("read", path);
  std::ostringstream bytes;
  if (file.peek() != std::ifstream::traits_type::eof()) bytes << file.rdbuf();
  if (file.bad()) throw cannot("read", path);
  return std::move(bytes).str();
}

}  // namespace kvmerger::eval
