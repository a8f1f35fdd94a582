// For the tests of this folder: requests, and profiles of models that do not exist.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "budget/budget.h"
#include "core/rng.h"

namespace kvmerger::budget {

using Rows = std::vector<uint32_t>;

inline uint64_t sum(const Rows& rows) { return std::accumulate(rows.begin(), rows.end(), uint64_t{0}); }

inline Request request(uint32_t layers, uint32_t heads, Rows have, uint64_t total, std::vector<uint8_t> whole = {}) {
  whole.resize(layers, 0);
  Request request;
  request.layers = layers;
  request.heads = heads;
  request.have = std::move(have);
  request.whole = std::move(whole);
  request.total = total;
  return request;
}

// Of a model with these heads, and nothing in it yet.
inline Profile empty_profile(uint32_t layers, uint32_t heads) {
  Profile profile;
  profile.layers = layers;
  profile.heads = heads;
  return profile;
}

// In 0 .. 1, the larger the power the fewer of them large.
inline std::vector<float> random_scores(uint32_t count, uint32_t power, Rng& rng) {
  std::vector<float> scores(count);
  for (float& score : scores) score = static_cast<float>(std::pow(rng.uniform(), power));
  return scores;
}

inline Profile random_profile(const Request& request, Rng& rng) {
  Profile profile = empty_profile(request.layers, request.heads);
  for (size_t head = 0; head < request.have.size(); ++head) {
    profile.quantiles.push_back(quantiles_of(random_scores(1 + rng.below(300), 1 + rng.below(8), rng)));
  }
  return profile;
}

// A head of which the share s of the rows has scores above exp(-first - steep s), whose logarithm is a straight line.
struct Line {
  double first, steep;

  double share_above(double log_threshold) const {
    return std::min(1.0, std::max(0.0, (-log_threshold - first) / steep));
  }
  std::array<float, kQuantiles> quantiles() const {
    std::array<float, kQuantiles> entries{};
    for (uint32_t index = 0; index < kQuantiles; ++index) {
      const double share = std::pow(index / (kQuantiles - 1.0), 2);
      entries[index] = static_cast<float>(std::exp(-first - steep * share));
    }
    return entries;
  }
};

inline Profile profile_of(uint32_t layers, uint32_t heads, const std::vector<Line>& lines) {
  Profile profile = empty_profile(layers, heads);
  for (const Line& line : lines) profile.quantiles.push_back(line.quantiles());
  return profile;
}

}  // namespace kvmerger::budget
