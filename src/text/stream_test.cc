#include "text/stream.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/rng.h"

namespace kvmerger::text {
namespace {

// UTF-8 by arithmetic, without a table of lead bytes: a code point's encoding, and a string's code point if it is the
// encoding of one.
std::string encode(uint32_t point) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | (point >> shift & 0x3F)); };
  if (point < 0x80) return {static_cast<char>(point)};
  if (point < 0x800) return {static_cast<char>(0xC0 | point >> 6), tail(0)};
  if (point < 0x10000) return {static_cast<char>(0xE0 | point >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | point >> 18), tail(12), tail(6), tail(0)};
}

bool is_code_point(const std::string& bytes) {
  const auto lead = static_cast<uint8_t>(bytes[0]);
  uint32_t point = bytes.size() == 1 ? lead : lead & (0xFFU >> (bytes.size() + 1));
  for (size_t index = 1; index < bytes.size(); ++index)
    point = point << 6 | (static_cast<uint8_t>(bytes[index]) & 0x3F);
  return point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF) && encode(point) == bytes;
}

// Whether bytes could go on to a code point, by trying the continuation bytes at which a rule changes.
bool is_start_of_code_point(const std::string& bytes) {
  if (is_code_point(bytes)) return true;
  if (bytes.size() == 4) return false;
  for (const char next : {'\x80', '\x8F', '\x90', '\x9F', '\xA0', '\xBF'}) {
    if (is_start_of_code_point(bytes + next)) return true;
  }
  return false;
}

std::string whole_valid(std::string_view bytes, size_t& replaced) {
  std::string text;
  while (!bytes.empty()) {
    size_t length = 1;
    while (length < bytes.size() && length < 4 && !is_code_point(std::string(bytes.substr(0, length))) &&
           is_start_of_code_point(std::string(bytes.substr(0, length + 1)))) {
      ++length;
    }
    const std::string head(bytes.substr(0, length));
    text += is_code_point(head) ? head : "\xEF\xBF\xBD";
    replaced += is_code_point(head) ? 0 : 1;
    bytes.remove_prefix(length);
  }
  return text;
}

struct Shown {
  std::string text, stop;
  bool operator==(const Shown&) const = default;
};

Shown whole_shown(std::string_view bytes, const std::vector<std::string>& stops) {
  size_t replaced = 0;
  const std::string text = whole_valid(bytes, replaced);
  for (size_t place = 0; place < text.size(); ++place) {
    std::string longest;
    for (const std::string& stop : stops) {
      if (text.compare(place, stop.size(), stop) == 0 && stop.size() > longest.size()) longest = stop;
    }
    if (!longest.empty()) return {text.substr(0, place), longest};
  }
  return {text, ""};
}

// Cut behind byte n where bit n of cuts is set. Also checks that no piece of output has half a code point.
Shown streamed(std::string_view bytes, uint64_t cuts, const std::vector<std::string>& stops) {
  TextStream stream(stops);
  std::string shown, piece;
  const auto show = [&](const std::string& text) {
    size_t replaced = 0;
    CHECK(whole_valid(text, replaced) == text);
    shown += text;
  };
  for (size_t place = 0; place < bytes.size(); ++place) {
    piece += bytes[place];
    if ((cuts >> place & 1) != 0) {
      show(stream.add(piece));
      piece.clear();
    }
  }
  show(stream.add(piece));
  show(stream.finish());
  CHECK(stream.stopped() == !stream.stop().empty());
  CHECK(stream.add("more").empty() == stream.stopped());
  return {shown, stream.stop()};
}

struct Case {
  std::string bytes;
  std::vector<std::string> stops;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"", {}},
      {"plain ascii", {}},
      {"plain ascii", {"asci", "ii"}},
      {"a\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", {}},
      {"\xF0\x9F\x98\x80\xE2\x82\xAC\xC3\xA9z", {"\xE2\x82\xAC"}},
      {"\xF0\x9F\x98\x81\xF0\x9F\x98\x80", {"\xF0\x9F\x98\x80"}},
      {"ab\xE2\x82", {}},
      {"ab\xE2\x82", {"b"}},
      {"\xC0\xAF\xED\xA0\x80\xF4\x90\x80\x80", {}},
      {"\xF0\x9F\x98q\xE2q\xC3q\xFF", {"q\xEF\xBF\xBD"}},
      {"xxabcabd", {"abd"}},
      {"aaaaaab", {"aaab"}},
      {"aaaaaac", {"aaab"}},
      {"abcx", {"abcd", "bc"}},  // the longer one fails, the earliest of the rest counts
      {"abcd", {"abcd", "bc"}},  // and here it does not fail
      {"one\n\ntwo", {"\n", "\n\n"}},
      {"one\n", {"\n\n", "\n"}},  // found at the end only
      {"one\n", {"\n\n", "e"}},
      {"<|im_end|>", {"<|im_end|>"}},
      {"x<|im_end", {"<|im_end|>"}},
      {std::string("a\0b\0c", 5), {std::string("\0c", 2)}},
      {"tell<<<end", {"<<end", "<<<<"}},
      {"stopstop", {"stop"}},
  };
  return all;
}

}  // namespace

TEST_CASE("stream: every way to cut a text gives what the whole text gives") {
  for (const Case& example : cases()) {
    CAPTURE(example.bytes);
    const Shown expected = whole_shown(example.bytes, example.stops);
    const uint64_t ways = uint64_t{1} << example.bytes.size();
    uint64_t wrong = 0;
    for (uint64_t cuts = 0; cuts < ways; ++cuts)
      wrong += streamed(example.bytes, cuts, example.stops) == expected ? 0 : 1;
    CHECK(wrong == 0);
  }
}

TEST_CASE("stream: random bytes and stops, cut at random") {
  Rng rng(7);
  const std::string alphabet = "ab\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\xA0";
  const std::vector<std::string> words = {"a",
                                          "ab",
                                          "ba",
                                          "aab",
                                          "\xC3\xA9",
                                          "\xC3\xA9"
                                          "a",
                                          "\xE2\x82\xAC",
                                          "b\xEF\xBF\xBD"};
  for (int round = 0; round < 20000; ++round) {
    Case example;
    while (example.bytes.size() < 3 + rng.below(30)) example.bytes += alphabet[rng.below(uint32_t(alphabet.size()))];
    while (rng.below(3) > 0) example.stops.push_back(words[rng.below(uint32_t(words.size()))]);
    CAPTURE(example.bytes);
    REQUIRE(streamed(example.bytes, rng.next(), example.stops) == whole_shown(example.bytes, example.stops));
  }
}

TEST_CASE("stream: nothing is held back longer than needed") {
  TextStream stream({"STOP", "\xE2\x82\xAC!"});
  CHECK(stream.add("a") == "a");
  CHECK(stream.add("bS") == "b");
  CHECK(stream.add("TO") == "");
  CHECK(stream.add("x") == "STOx");
  CHECK(stream.add("\xC3") == "");
  CHECK(stream.add("\xA9") == "\xC3\xA9");
  CHECK(stream.add("\xE2\x82\xAC") == "");  // may become the second stop string
  CHECK(stream.add("?") == "\xE2\x82\xAC?");
  CHECK(stream.add("\xE2\x28") == "\xEF\xBF\xBD(");  // known invalid at the second byte
  CHECK(stream.add("\xED\xA0") == "\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK_FALSE(stream.stopped());
  CHECK(stream.add("yST") == "y");
  CHECK(stream.add("OP") == "");  // nothing longer can come: found at once
  CHECK(stream.stopped());
  CHECK(stream.stop() == "STOP");
  CHECK(stream.finish() == "");
}

TEST_CASE("stream: stop strings that cannot be found are refused") {
  CHECK_THROWS_AS(TextStream({"ok", ""}), UsageError);
  CHECK_THROWS_AS(TextStream({"\xE2\x82"}), UsageError);
}

TEST_CASE("valid_utf8: the cases that Python's bytes.decode('utf-8', 'replace') gives") {
  const std::string r = "\xEF\xBF\xBD";
  struct Known {
    std::string bytes, text;
    size_t replaced;
  };
  const Known known[] = {
      {"", "", 0},
      {"ascii\n", "ascii\n", 0},
      {"\xC2\x80\xDF\xBF", "\xC2\x80\xDF\xBF", 0},
      {"\xE0\xA0\x80\xEF\xBF\xBF", "\xE0\xA0\x80\xEF\xBF\xBF", 0},
      {"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 0},
      {"\x80", r, 1},
      {"\xC0\xAF", r + r, 2},                  // overlong /
      {"\xC1\xBF", r + r, 2},                  // overlong
      {"\xE0\x80\xAF", r + r + r, 3},          // overlong
      {"\xE0\x9F\xBF", r + r + r, 3},          // overlong
      {"\xF0\x8F\xBF\xBF", r + r + r + r, 4},  // overlong
      {"\xED\xA0\x80", r + r + r, 3},          // surrogate
      {"\xED\xBF\xBF", r + r + r, 3},          // surrogate
      {"\xF4\x90\x80\x80", r + r + r + r, 4},  // above U+10FFFF
      {"\xF5\x80\x80\x80", r + r + r + r, 4},
      {"\xFE\xFF", r + r, 2},
      {"\xC3", r, 1},
      {"\xE2\x82", r, 1},
      {"\xF0\x9F\x98", r, 1},
      {"\xE2\x82x", r + "x", 1},
      {"\xF0\x9F\x98\xF0\x9F\x98\x80", r + "\xF0\x9F\x98\x80", 1},
      {"a\xF1\x80\x80\xE1\x80\xC2"
       "b\x80"
       "c\x80\xBF"
       "d",
       "a" + r + r + r + "b" + r + "c" + r + r + "d", 6},
  };
  for (const Known& example : known) {
    CAPTURE(example.bytes);
    size_t replaced = 99;
    CHECK(valid_utf8(example.bytes, &replaced) == example.text);
    CHECK(replaced == example.replaced);
    CHECK(valid_utf8(example.bytes, nullptr) == example.text);
  }
}

TEST_CASE("valid_utf8: all pairs of bytes, and three and four bytes at which a rule changes") {
  uint64_t wrong = 0;
  const auto check = [&](const std::string& bytes) {
    size_t replaced = 0, expected_replaced = 0;
    const std::string expected = whole_valid(bytes, expected_replaced);
    wrong += valid_utf8(bytes, &replaced) == expected && replaced == expected_replaced ? 0 : 1;
  };
  const auto byte = [](uint32_t value) { return std::string(1, static_cast<char>(value)); };
  for (uint32_t value = 0; value < 0x10000; ++value) check(byte(value >> 8) + byte(value & 0xFF));
  const std::vector<uint32_t> edges = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                       0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  for (const uint32_t first : edges) {
    for (const uint32_t second : edges) {
      for (const uint32_t third : edges) {
        check(byte(first) + byte(second) + byte(third));
        for (const uint32_t fourth : edges) check(byte(first) + byte(second) + byte(third) + byte(fourth));
      }
    }
  }
  CHECK(wrong == 0);
}

}  // namespace kvmerger::text
