// Sharing rows out by scores that can be compared across heads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace kvmerger::budget {

// [heads] how many of the `total` best rows of all heads lie in each. The best `least` rows of a head, or all it has,
// count as best of all. Of equal scores the earlier head and row wins.
std::vector<uint64_t> best_rows(std::span<const std::vector<float>* const> scores, uint64_t total, uint32_t least);

}  // namespace kvmerger::budget
