#include "core/folders.h"

#include <cstdlib>

#include "core/error.h"

namespace kvmerger {

std::string cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  return cat(cache && *cache ? cache : cat(home ? home : "", "/.cache"), "/kvmerger");
}

}  // namespace kvmerger
