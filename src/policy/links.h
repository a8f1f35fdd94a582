// Runs of neighbouring rows with similar keys. Link i joins rows i and i + 1; rows joined by links form a run.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/views.h"

namespace kvmerger::policy {

inline constexpr float kNoLink = -2.0F;  // below every cosine: one of the two rows must stay alone

// [n - 1] cosine of neighbouring keys, in [-1, 1], 0 where a key is 0; kNoLink where one of the rows is alone.
std::vector<float> adjacent_cosines(const kv::Rows& key, std::span<const uint8_t> alone);

// [n - 1] 1 for the links used: all above epsilon (> -2), or the `count` strongest (or all; of equals the lower index).
std::vector<uint8_t> links_above(std::span<const float> cosines, double epsilon);
std::vector<uint8_t> strongest_links(std::span<const float> cosines, uint32_t count);

// [runs + 1] where each run begins, and the number of rows (>= 1).
std::vector<uint32_t> run_begins(std::span<const uint8_t> links);

}  // namespace kvmerger::policy
