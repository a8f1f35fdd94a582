// Where a user's files are kept.
#pragma once

#include <string>

namespace kvmerger {

// The user's cache folder for us: $XDG_CACHE_HOME/kvmerger, by custom ~/.cache/kvmerger. It need not exist.
std::string cache_folder();

}  // namespace kvmerger
