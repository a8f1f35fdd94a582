#include "text/stream.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/error.h"

namespace kvmerger::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Which second bytes may follow a lead byte, and how many bytes the sequence has (Unicode 15, table 3-7). The bounds on
// the second byte rule out overlong forms, surrogates and code points above U+10FFFF.
struct Lead {
  uint8_t first, last;                // lead bytes
  uint8_t length;                     // bytes in the sequence
  uint8_t second_least, second_most;  // unused when length is 1
};
constexpr Lead kLeads[] = {{0x00, 0x7F, 1, 0, 0},       {0xC2, 0xDF, 2, 0x80, 0xBF}, {0xE0, 0xE0, 3, 0xA0, 0xBF},
                           {0xE1, 0xEC, 3, 0x80, 0xBF}, {0xED, 0xED, 3, 0x80, 0x9F}, {0xEE, 0xEF, 3, 0x80, 0xBF},
                           {0xF0, 0xF0, 4, 0x90, 0xBF}, {0xF1, 0xF3, 4, 0x80, 0xBF}, {0xF4, 0xF4, 4, 0x80, 0x8F}};

// The longest start of `bytes` that is a code point or could become one: its bytes (at least 1), and which of the two.
struct Sequence {
  size_t length;
  enum { kComplete, kIncomplete, kInvalid } state;
};

Sequence first_sequence(std::string_view bytes) {
  const auto byte = [&](size_t index) { return static_cast<uint8_t>(bytes[index]); };
  const auto* lead = std::find_if(std::begin(kLeads), std::end(kLeads),
                                  [&](const Lead& row) { return row.first <= byte(0) && byte(0) <= row.last; });
  if (lead == std::end(kLeads)) return {1, Sequence::kInvalid};
  for (size_t index = 1; index < lead->length; ++index) {
    if (index == bytes.size()) return {index, Sequence::kIncomplete};
    const uint8_t least = index == 1 ? lead->second_least : 0x80;
    const uint8_t most = index == 1 ? lead->second_most : 0xBF;
    if (byte(index) < least || byte(index) > most) return {index, Sequence::kInvalid};
  }
  return {lead->length, Sequence::kComplete};
}

// Appends to `text` what of `bytes` can be decided, invalid sequences replaced; returns the incomplete rest.
std::string_view append_valid(std::string_view bytes, std::string& text, size_t& replaced) {
  while (!bytes.empty()) {
    const Sequence sequence = first_sequence(bytes);
    if (sequence.state == Sequence::kIncomplete) return bytes;
    const bool valid = sequence.state == Sequence::kComplete;
    text += valid ? bytes.substr(0, sequence.length) : kReplacement;
    replaced += valid ? 0 : 1;
    bytes.remove_prefix(sequence.length);
  }
  return bytes;
}

}  // namespace

std::string valid_utf8(std::string_view bytes, size_t* replaced) {
  std::string text;
  size_t count = 0;
  if (!append_valid(bytes, text, count).empty()) {
    text += kReplacement;
    ++count;
  }
  if (replaced != nullptr) *replaced = count;
  return text;
}

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {
  // The longest first, so that the first one found at a place is the one that counts.
  std::stable_sort(stops_.begin(), stops_.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  for (const std::string& stop : stops_) {
    if (stop.empty()) throw UsageError("a stop string is empty; leave it out");
    size_t replaced = 0;
    valid_utf8(stop, &replaced);
    if (replaced > 0) throw UsageError("a stop string is not valid UTF-8; it could never be found in the text");
  }
}

std::string TextStream::add(std::string_view piece) {
  if (stopped_) return {};
  rest_ += piece;
  size_t replaced = 0;
  rest_ = std::string(append_valid(rest_, held_, replaced));
  return release(false);
}

std::string TextStream::finish() {
  if (stopped_) return {};
  held_ += valid_utf8(std::exchange(rest_, {}), nullptr);
  return release(true);
}

const std::string* TextStream::stop_at_start(std::string_view text) const {
  const auto found =
      std::find_if(stops_.begin(), stops_.end(), [&](const auto& stop) { return text.starts_with(stop); });
  return found == stops_.end() ? nullptr : &*found;
}

bool TextStream::may_become_stop(std::string_view text) const {
  return std::any_of(stops_.begin(), stops_.end(),
                     [&](const auto& stop) { return stop.size() > text.size() && stop.starts_with(text); });
}

// Decides byte by byte: a stop begins here, it is too early to tell, or the byte may be shown.
std::string TextStream::release(bool at_end) {
  size_t shown = 0;
  for (; shown < held_.size(); ++shown) {
    const std::string_view ahead = std::string_view(held_).substr(shown);
    if (!at_end && may_become_stop(ahead)) break;
    if (const std::string* stop = stop_at_start(ahead)) {
      stopped_ = true;
      stop_ = *stop;
      break;
    }
  }
  std::string text = held_.substr(0, shown);
  held_.erase(0, stopped_ ? std::string::npos : shown);
  return text;
}

}  // namespace kvmerger::text
