#include "policy/score_policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace kvmerger::policy {

uint32_t share_rows(double share, uint32_t count) {
  const auto millionths = static_cast<uint64_t>(std::llround(share * 1e6));
  return static_cast<uint32_t>(millionths * count / 1000000);
}

Protection within(Protection wanted, uint32_t rows) {
  const uint32_t sinks = std::min(wanted.sinks, rows - 1);
  return {sinks, std::clamp(wanted.recent, 1U, rows - sinks)};
}

void protect(std::span<float> scores, Protection protection) {
  const auto raise = [](std::span<float> part) { std::ranges::fill(part, std::numeric_limits<float>::infinity()); };
  raise(scores.first(protection.sinks));
  raise(scores.last(protection.recent));
}

std::vector<uint32_t> top_rows(std::span<const float> scores, uint32_t count) {
  std::vector<uint32_t> rows(scores.size());
  std::iota(rows.begin(), rows.end(), 0U);
  const auto better = [&](uint32_t left, uint32_t right) {
    return scores[left] > scores[right] || (scores[left] == scores[right] && left < right);
  };
  std::nth_element(rows.begin(), rows.begin() + count, rows.end(), better);
  rows.resize(count);
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::vector<float> ScorePolicy::row_scores(const kv::HeadView& head, uint32_t rows) const {
  check_statistics(head, needs());
  std::vector<float> scores = score(head);
  protect(scores, within(protection(rows), rows));
  return scores;
}

std::vector<uint32_t> ScorePolicy::kept_rows(const kv::HeadView& head, uint32_t rows) const {
  return top_rows(row_scores(head, rows), rows);
}

kv::HeadPlan ScorePolicy::plan_head(const kv::HeadView& head, uint32_t rows) const {
  return kv::keep_rows(head, kept_rows(head, rows));
}

}  // namespace kvmerger::policy
