#include "budget/by_score.h"

#include <algorithm>
#include <limits>

namespace kvmerger::budget {
namespace {

struct Row {
  float score;
  uint32_t head;
};

// Scores in falling order, the first `least` raised above all others.
std::vector<float> ranked(std::vector<float> scores, uint32_t least) {
  std::sort(scores.begin(), scores.end(), std::greater<>());
  std::fill_n(scores.begin(), std::min<size_t>(least, scores.size()), std::numeric_limits<float>::infinity());
  return scores;
}

}  // namespace

std::vector<uint64_t> best_rows(std::span<const std::vector<float>* const> scores, uint64_t total, uint32_t least) {
  std::vector<Row> rows;
  for (uint32_t head = 0; head < scores.size(); ++head) {
    for (const float score : ranked(*scores[head], least)) rows.push_back({score, head});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.score > b.score; });
  rows.resize(std::min<uint64_t>(total, rows.size()));
  std::vector<uint64_t> counts(scores.size());
  for (const Row& row : rows) ++counts[row.head];
  return counts;
}

}  // namespace kvmerger::budget
