// Random words, numbers and identifiers for made-up texts.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "core/rng.h"

namespace kvmerger::eval {

inline constexpr uint32_t kWordPairs = 64 * 96;  // that word_pairs can give

// `count` different pairs, `adjective-noun`.
std::vector<std::string> word_pairs(Rng& rng, uint32_t count);
std::string seven_digits(Rng& rng);
std::string uuid(Rng& rng);                                 // of version 4
std::string letters(Rng& rng, char first, uint32_t count);  // of the 26 from `first` on

template <typename T>
void shuffle(std::vector<T>& items, Rng& rng) {
  for (size_t left = items.size(); left > 1; --left) {
    std::swap(items[left - 1], items[rng.below(static_cast<uint32_t>(left))]);
  }
}

}  // namespace kvmerger::eval
