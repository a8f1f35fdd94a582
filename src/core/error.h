// Errors and checks. Error = the world is wrong (file, flag, model); KVM_CHECK = we are wrong.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace kvmerger {

// Thrown deep, caught once at the edge. The message says what, where and what to do. The program ends with 1.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The caller asked for something that does not exist or cannot be: an unknown flag, key, value. The program ends
// with 2.
class UsageError : public Error {
  using Error::Error;
};

// Concatenates anything printable: throw Error(cat("cannot open ", path)).
template <typename... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace kvmerger

// Aborts, in release builds too. For broken promises between our own functions, outside inner loops.
#define KVM_CHECK(condition)                                                    \
  do {                                                                          \
    if (!(condition)) ::kvmerger::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
