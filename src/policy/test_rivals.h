// For the tests of methods with vectors from tools/rival_vectors.py, and of those that merge into the nearest row.
#pragma once

#include <map>

#include "policy/rival_vectors.h"
#include "policy/test_heads.h"

namespace kvmerger::policy {

inline TestHead rival_head(uint32_t index) {
  const auto part = [&](const std::vector<float>& all, uint32_t size) {
    return std::vector<float>(all.begin() + index * size, all.begin() + (index + 1) * size);
  };
  Rng rng(1);
  TestHead head = random_head(rivals::kRows, rivals::kDim, rng);
  head.key = part(rivals::kKey, rivals::kRows * rivals::kDim);
  head.value = part(rivals::kValue, rivals::kRows * rivals::kDim);
  head.attn_sum = rivals::kAttnSum;
  head.attn_win = part(rivals::kLastAttention, rivals::kRows);
  head.query = rivals::kQuery;
  return head;
}

// Where numbers differ by more than rounding, or "".
inline std::string difference(const std::vector<float>& found, const std::vector<float>& expected) {
  if (found.size() != expected.size()) return cat(found.size(), " numbers, expected ", expected.size());
  for (size_t at = 0; at < found.size(); ++at) {
    if (!near(double{found[at]}, double{expected[at]})) return cat("at ", at, ": ", found[at], ", not ", expected[at]);
  }
  return "";
}

// Where the rows that a plan makes differ from those expected, or "".
inline std::string difference(const kv::HeadPlan& plan, const TestHead& head, const std::vector<float>& key,
                              const std::vector<float>& value) {
  const std::string keys = difference(apply(plan.key, head.key, head.dim), key);
  return keys != "" ? "keys " + keys : difference(apply(plan.value, head.value, head.dim), value);
}

struct LiteralMatch {
  uint32_t row;  // dropped
  double cosine;
};

inline double literal_cosine(const TestHead& head, uint32_t one, uint32_t other) {
  double dot = 0, one_square = 0, other_square = 0;
  for (uint32_t at = 0; at < head.dim; ++at) {
    const double left = double{head.key[one * head.dim + at]}, right = double{head.key[other * head.dim + at]};
    dot += left * right, one_square += left * left, other_square += right * right;
  }
  return one_square * other_square > 0 ? dot / std::sqrt(one_square * other_square) : 0.0;
}

// kept row -> the dropped rows nearest to it; of the kept rows the sinks and the newest take none.
inline std::map<uint32_t, std::vector<LiteralMatch>> literal_matches(const TestHead& head,
                                                                     const std::vector<uint32_t>& kept,
                                                                     uint32_t sinks) {
  std::map<uint32_t, std::vector<LiteralMatch>> matches;
  for (uint32_t row = 0; row < head.rows; ++row) {
    if (std::ranges::count(kept, row)) continue;
    std::map<double, uint32_t> by_distance;  // of equals the first stays
    for (size_t place = 0; place < kept.size(); ++place) {
      if (place < sinks || kept[place] == head.rows - 1) continue;
      by_distance.emplace(-literal_cosine(head, row, kept[place]), kept[place]);
    }
    if (!by_distance.empty()) matches[by_distance.begin()->second].push_back({row, -by_distance.begin()->first});
  }
  return matches;
}

// Rows that H2O with sinks keeps, one eviction at a time; half of them are the newest.
inline std::vector<uint32_t> literal_heavy(const TestHead& head, uint32_t budget, uint32_t sinks) {
  const auto score = [&](uint32_t row) { return head.attn_sum[row]; };
  return evict_one_by_one(head.rows, budget, safe_rows(head.rows, budget, sinks, budget / 2), score);
}

}  // namespace kvmerger::policy
