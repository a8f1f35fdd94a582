// JSON Lines: records read one after another, and files of results that grow line by line.
#pragma once

#include <cstddef>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/json.h"

namespace kvmerger::eval {

// Member of an object; nullptr when there is none or it is null.
const Json* find_member(const Json& object, std::string_view key);

// Reads the records of a file, which may be compressed by gzip (*.gz). use gets each record and its line's number, and
// answers false when it wants no more. Throws Error naming file and line when a line is no JSON object or when `use`
// throws Error.
void read_json_lines(const std::string& path, const std::function<bool(const Json&, size_t line)>& use);

// How far a file of results was read. A last line that is not whole, as an interrupted write leaves it, is not counted.
struct ResultsRead {
  size_t whole = 0;  // bytes of whole lines
  size_t size = 0;   // and of all

  bool damaged() const { return whole < size; }
};
// use gets each whole line. begin: of all our lines; a rest that does not begin so was written by another program. A
// file that is not there is empty. Throws Error naming the line that is none of ours, and what `use` throws.
ResultsRead read_results(const std::string& path, std::string_view begin, const std::function<void(const Json&)>& use);

// Adds lines to a file of results, each at once. Nobody else may write to it meanwhile.
class ResultsWriter {
 public:
  // A last line that is not whole is cut off, with a warning, when the first one is written. Throws Error when the file
  // cannot be written, when another writer has it, or when it has grown since it was read.
  ResultsWriter(const std::string& path, const ResultsRead& read);
  void write(const Json& line);  // throws Error; what was written before stands

 private:
  void check_size() const;

  std::string path_;
  ResultsRead read_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

// Writes a file whole or not at all. Throws Error.
void write_atomically(const std::string& path, const std::string& bytes);
// Throws Error when it cannot be read.
std::string read_file(const std::string& path);

}  // namespace kvmerger::eval
