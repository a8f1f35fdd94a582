// Token pieces to text that may be shown: holds back incomplete UTF-8 and text that may be the start of a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kvmerger::text {

class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stops);  // throws UsageError on an empty stop string

  // Adds the bytes of one token; returns what may be shown now. After a stop string was found nothing more comes, and
  // neither the stop string nor what follows is ever returned.
  std::string add(std::string_view piece);
  // At the end of generation: what was held back. An incomplete UTF-8 sequence becomes one U+FFFD.
  std::string finish();
  bool stopped() const { return stopped_; }
  const std::string& stop() const { return stop_; }  // the stop string found, or ""

 private:
  std::vector<std::string> stops_;
  std::string held_, stop_;
  bool stopped_ = false;
};

// Replaces every invalid UTF-8 sequence by U+FFFD; returns how many in *replaced when not null.
std::string valid_utf8(std::string_view bytes, size_t* replaced);

}  // namespace kvmerger::text
