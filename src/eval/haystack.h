// Long texts to hide something in: whole sentences from a place on, beginning again at the end, as many as are wanted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvmerger::eval {

// The sentences of a text, each with the white space behind it: together they are the text.
std::vector<std::string_view> split_sentences(std::string_view text);

// What is hidden, and where: the share of the text before it.
struct Hidden {
  std::string text;
  double depth;
};
// The pieces one after the other; before the first piece that begins at or behind the depth of what is hidden stands
// that. Of equal depths the first given is first.
std::string hide(const std::vector<std::string_view>& pieces, const std::vector<Hidden>& hidden);

class Haystack {
 public:
  explicit Haystack(std::vector<std::string> texts);
  Haystack(Haystack&&) = default;  // a copy's sentences would be those of the original

  size_t texts() const { return texts_.size(); }
  const std::string& text(size_t index) const { return texts_[index % texts_.size()]; }
  // place: where to begin, from 0 to 1.
  std::vector<std::string_view> sentences(size_t index, double place, uint32_t count) const;

 private:
  std::vector<std::string> texts_;
  std::vector<std::vector<std::string_view>> sentences_;  // of each
};

// file empty: all *.txt of the folder, in the order of their names, or a built-in text when there is none. Throws Error
// when a file cannot be read or is empty.
Haystack read_haystack(const std::string& file, const std::string& folder);

}  // namespace kvmerger::eval
