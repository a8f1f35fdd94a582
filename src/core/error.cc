#include "core/error.h"

#include <cstdio>
#include <cstdlib>

namespace kvmerger {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: internal error: %s does not hold\n", file, line, condition);
  std::abort();
}

}  // namespace kvmerger
