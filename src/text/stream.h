// Token pieces to text that may be shown: holds back incomplete UTF-8 and text that may be the start of a stop string.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kvmerger::text {

class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stops);  // throws UsageError on an empty stop string or invalid UTF-8

  // Adds the bytes of one token; returns what may be shown now, always whole code points. After a stop string was found
  // nothing more comes, and neither the stop string nor what follows is ever returned. The earliest stop string counts,
  // the longest of those that begin there; the result does not depend on how the text is cut into pieces.
  std::string add(std::string_view piece);
  // At the end of generation: what was held back. An incomplete UTF-8 sequence becomes one U+FFFD. A stop string that
  // was waiting for a longer one may be found only here.
  std::string finish();
  bool stopped() const { return stopped_; }
  const std::string& stop() const { return stop_; }  // the stop string found, or ""

 private:
  const std::string* stop_at_start(std::string_view text) const;  // the longest, or null
  bool may_become_stop(std::string_view text) const;
  std::string release(bool at_end);

  std::vector<std::string> stops_;  // the longest first
  std::string rest_;                // an incomplete UTF-8 sequence
  std::string held_;                // valid text that may be the start of a stop string
  std::string stop_;
  bool stopped_ = false;
};

// Replaces every invalid UTF-8 sequence (as long as it could have become a code point) by one U+FFFD; returns how many
// in *replaced when not null.
std::string valid_utf8(std::string_view bytes, size_t* replaced);

// Whether a character of UTF-8 begins with the byte.
inline bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

}  // namespace kvmerger::text
