#include "policy/links.h"

#include <algorithm>
#include <cmath>

#include "policy/score_policy.h"
#include "policy/vectors.h"

namespace kvmerger::policy {

std::vector<float> adjacent_cosines(const kv::Rows& key, std::span<const uint8_t> alone) {
  std::vector<float> cosines(key.count - 1, kNoLink);
  double norm = square(key[0]);  // squared, of row; next_norm of the row behind it
  for (uint32_t row = 0; row + 1 < key.count; ++row) {
    const double next_norm = square(key[row + 1]);
    if (!alone[row] && !alone[row + 1]) {
      const double both = std::sqrt(norm * next_norm);
      const double cosine = both > 0.0 ? dot(key[row], key[row + 1]) / both : 0.0;
      cosines[row] = static_cast<float>(std::clamp(cosine, -1.0, 1.0));
    }
    norm = next_norm;
  }
  return cosines;
}

std::vector<uint8_t> links_above(std::span<const float> cosines, double epsilon) {
  std::vector<uint8_t> links;
  for (float cosine : cosines) links.push_back(double{cosine} > epsilon);
  return links;
}

std::vector<uint8_t> strongest_links(std::span<const float> cosines, uint32_t count) {
  const auto usable = std::ranges::count_if(cosines, [](float cosine) { return cosine > kNoLink; });
  std::vector<uint8_t> links(cosines.size());
  for (uint32_t link : top_rows(cosines, std::min(count, static_cast<uint32_t>(usable)))) links[link] = 1;
  return links;
}

std::vector<uint32_t> run_begins(std::span<const uint8_t> links) {
  std::vector<uint32_t> begins{0};
  for (uint32_t link = 0; link < links.size(); ++link) {
    if (!links[link]) begins.push_back(link + 1);
  }
  begins.push_back(static_cast<uint32_t>(links.size()) + 1);
  return begins;
}

}  // namespace kvmerger::policy
