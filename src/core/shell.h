// Commands for the shell.
#pragma once

#include <string>

namespace kvmerger {

// A word that the shell takes as it is, whatever it holds.
inline std::string shell_quoted(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

}  // namespace kvmerger
