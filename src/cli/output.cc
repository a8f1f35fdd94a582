#include "cli/output.h"

#include <cstdio>

namespace kvmerger::cli {

bool Answer::write(std::string_view piece) {
  if (piece.empty() || closed_) return !closed_;
  at_line_start_ = piece.back() == '\n';
  closed_ = std::fwrite(piece.data(), 1, piece.size(), stdout) != piece.size() || std::fflush(stdout) != 0;
  return !closed_;
}

void Answer::end() {
  if (!at_line_start_) write("\n");
}

}  // namespace kvmerger::cli
