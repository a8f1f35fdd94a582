#include "cli/texts.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "cli/interrupt.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/session.h"
#include "text/stream.h"

namespace kvmerger::cli {
namespace {

constexpr size_t kMostBytes = size_t{1} << 30;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

Error too_long(const std::string& name) { return Error(cat(name, " is longer than 1 GiB; cut it into parts")); }

File open(const std::string& path) {
  if (path == "-") return {stdin, [](std::FILE*) { return 0; }};
  File file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) throw Error(cat("cannot read the document ", path, ": ", std::strerror(errno)));
  struct stat facts{};
  if (fstat(fileno(file.get()), &facts) == 0 && S_ISDIR(facts.st_mode)) {
    throw Error(cat("the document ", path, " is a folder; give a text file"));
  }
  if (S_ISREG(facts.st_mode) && static_cast<size_t>(facts.st_size) > kMostBytes) throw too_long("the document " + path);
  return file;
}

std::string read_all(const std::string& path, const std::string& name) {
  const File file = open(path);
  std::string bytes;
  std::array<char, 1 << 16> block;
  for (size_t count; (count = std::fread(block.data(), 1, block.size(), file.get())) > 0;) {
    bytes.append(block.data(), count);
    if (bytes.size() > kMostBytes) throw too_long(name);
  }
  if (interrupted()) throw engine::Interrupted();
  if (std::ferror(file.get())) throw Error(cat("cannot read ", name, ": ", std::strerror(errno)));
  return bytes;
}

std::string clean(const std::string& bytes, const std::string& name) {
  size_t replaced = 0;
  std::string text = text::valid_utf8(bytes, &replaced);
  if (replaced > 0) {
    log_warn(cat(name, " is not valid UTF-8: ", replaced,
                 " invalid sequences were replaced by U+FFFD; convert it with iconv"));
  }
  return text;
}

int hex(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  const char lower = static_cast<char>(digit | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

std::string read_document(const std::string& path) {
  const std::string name = path == "-" ? "the document on stdin" : "the document " + path;
  std::string bytes = read_all(path, name);
  if (bytes.starts_with(kByteOrderMark)) bytes.erase(0, kByteOrderMark.size());
  if (bytes.ends_with('\n')) bytes.pop_back();
  if (bytes.empty()) throw Error(cat(name, " is empty"));
  if (const size_t place = bytes.find('\0'); place != std::string::npos) {
    throw Error(cat(name, " is binary: it has a NUL byte at offset ", place,
                    "; give UTF-8 text (UTF-16: convert it with iconv)"));
  }
  return clean(bytes, name);
}

std::string given_text(const std::string& text, bool escapes, const std::string& flag) {
  return clean(escapes ? unescape(text) : text, "the text of " + flag);
}

std::string unescape(const std::string& text) {
  constexpr std::string_view kLetters = "nrt'\"\\", kMeanings = "\n\r\t'\"\\";
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    const char next = text[at] == '\\' && at + 1 < text.size() ? text[at + 1] : '\0';
    const size_t letter = next == '\0' ? std::string_view::npos : kLetters.find(next);
    if (letter != std::string_view::npos) {
      out += kMeanings[letter];
      ++at;
    } else if (next == 'x' && at + 3 < text.size() && hex(text[at + 2]) >= 0 && hex(text[at + 3]) >= 0) {
      out += static_cast<char>(hex(text[at + 2]) * 16 + hex(text[at + 3]));
      at += 3;
    } else {
      out += text[at];
    }
  }
  return out;
}

}  // namespace kvmerger::cli
