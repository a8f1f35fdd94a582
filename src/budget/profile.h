// What a model's heads need, measured once: for each (layer, KV head) how the largest attention that a row receives
// while the text is repeated (KVzip's score) is distributed over the rows of a text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

namespace kvmerger::budget {

inline constexpr uint32_t kQuantiles = 64;

struct Profile {
  std::string fingerprint, name;  // of the model
  std::string made;               // how, for people
  uint32_t layers = 0, heads = 0;
  // [layers * heads] scores falling: entry i is the score that a share top_share(i) of the rows reaches.
  std::vector<std::array<float, kQuantiles>> quantiles;

  // Share of a head's rows whose score is above the threshold, in 0 .. 1; interpolated between the entries over the
  // logarithm of the score.
  double share_above(uint32_t head, double threshold) const;
};

// Dense where scores are high, since most heads keep few rows: (i / (kQuantiles - 1))^2.
double top_share(uint32_t index);
// The entries of one head from the scores of its rows (at least one, in any order).
std::array<float, kQuantiles> quantiles_of(std::vector<float> scores);

Json to_json(const Profile& profile);
Profile profile_from_json(const Json& json);  // throws Error on anything that is not a profile

}  // namespace kvmerger::budget
