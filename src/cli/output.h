// The answer on stdout, piece by piece; notices when nobody reads it any more.
#pragma once

#include <string_view>

namespace kvmerger::cli {

class Answer {
 public:
  bool write(std::string_view piece);  // false when stdout cannot be written to
  void end();                          // a line break, unless the answer ended with one
  bool closed() const { return closed_; }

 private:
  bool at_line_start_ = true;
  bool closed_ = false;
};

}  // namespace kvmerger::cli
