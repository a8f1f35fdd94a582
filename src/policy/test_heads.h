// For the tests of this folder: random rows of KV heads, and plans in a form that is easy to compare.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <list>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "kv/plan.h"
#include "kv/views.h"
#include "policy/policy.h"

namespace kvmerger::policy {

inline double random_normal(Rng& rng) {  // Box-Muller
  constexpr double kTwoPi = 6.283185307179586;
  return std::sqrt(-2.0 * std::log(1.0 - rng.uniform())) * std::cos(kTwoPi * rng.uniform());
}

inline std::vector<float> random_normals(Rng& rng, size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random_normal(rng));
  return values;
}

struct TestHead {
  uint32_t rows, dim;
  std::vector<float> key, value, mass, bias, attn_sum, attn_win, attn_max, query;
  std::vector<int32_t> pos;

  // What `needs` does not ask for is empty, as in a cache that did not record it.
  kv::HeadView view(const Needs& needs) const {
    const auto asked = [](bool wanted, const std::vector<float>& values) {
      return wanted ? std::span<const float>(values) : std::span<const float>();
    };
    kv::HeadView view{{key.data(), rows, dim}, {value.data(), rows, dim}, pos, mass, bias, {}, {}, {}, {}};
    view.attn_sum = asked(needs.attn_sum, attn_sum);
    view.attn_win = asked(needs.window > 0, attn_win);
    view.attn_max = asked(needs.reconstruction, attn_max);
    if (needs.queries > 0) view.query = {query.data(), static_cast<uint32_t>(query.size() / dim), dim};
    return view;
  }

  float* key_of(uint32_t row) { return &key[size_t{row} * dim]; }
};

// Neighbours have similar keys, a few rows get most of the attention.
inline TestHead random_head(uint32_t rows, uint32_t dim, Rng& rng) {
  TestHead head{rows,
                dim,
                random_normals(rng, size_t{rows} * dim),
                random_normals(rng, size_t{rows} * dim),
                {},
                {},
                {},
                {},
                {},
                random_normals(rng, size_t{4} * dim),
                {}};
  for (size_t at = dim; at < head.key.size(); ++at) head.key[at] = 0.9F * head.key[at - dim] + 0.5F * head.key[at];
  for (float& key : head.key) key *= 3.0F;
  for (uint32_t row = 0; row < rows; ++row) {
    head.pos.push_back(static_cast<int32_t>(row));
    head.mass.push_back(1.0F);
    head.bias.push_back(0.0F);
    for (auto* attention : {&head.attn_sum, &head.attn_win, &head.attn_max}) {
      attention->push_back(static_cast<float>(std::pow(rng.uniform(), 4)));
    }
  }
  return head;
}

// The same as a cache that was merged before: gaps in the positions, masses above 1, biases.
inline TestHead merged_head(uint32_t rows, uint32_t dim, Rng& rng) {
  TestHead head = random_head(rows, dim, rng);
  int32_t pos = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    head.mass[row] = static_cast<float>(1 + rng.below(4));
    head.bias[row] = rng.below(2) ? std::log(head.mass[row]) : static_cast<float>(rng.uniform() - 0.5);
    head.pos[row] = pos += static_cast<int32_t>(head.mass[row]);
  }
  return head;
}

// The heads must outlive the view.
inline kv::LayerView layer_view(std::span<const TestHead> heads, const Needs& needs) {
  kv::LayerView view{5, 12, {}};
  for (const TestHead& head : heads) view.heads.push_back(head.view(needs));
  return view;
}

// Plan of a single head by the policy of `spec`; no limit: the policy chooses.
inline kv::HeadPlan plan_of(const std::string& spec, const TestHead& head, std::vector<uint32_t> limit = {}) {
  const auto policy = make(spec);
  return policy->plan(layer_view({&head, 1}, policy->needs()), limit).front();
}

inline std::vector<uint32_t> kept_by(const std::string& spec, const TestHead& head, uint32_t limit) {
  return plan_of(spec, head, {limit}).pivot;
}

// A row of a plan as the second implementations make it.
struct ExpectedRow {
  uint32_t pivot;
  std::map<uint32_t, double> key, value;  // old row -> weight
  double bias;
};

inline bool near(double found, double expected) {
  return std::abs(found - expected) <= 1e-5 * (1 + std::abs(expected));
}

inline bool near(std::span<const kv::Source> found, const std::map<uint32_t, double>& expected) {
  std::map<uint32_t, double> weights;
  for (const kv::Source& source : found) weights[source.row] += double{source.weight};
  bool same = found.size() == weights.size();  // no row twice
  for (const auto& [row, weight] : expected) same = same && (weights.contains(row) || weight == 0.0);
  for (const auto& [row, weight] : weights) {
    same = same && near(weight, expected.contains(row) ? expected.at(row) : 0.0);
  }
  return same;
}

// Where the plan differs from what is expected, or "".
inline std::string difference(const kv::HeadPlan& plan, const std::vector<ExpectedRow>& expected) {
  if (plan.rows() != expected.size()) return cat(plan.rows(), " rows, expected ", expected.size());
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    if (plan.pivot[row] != expected[row].pivot) {
      return cat("row ", row, ": pivot ", plan.pivot[row], ", expected ", expected[row].pivot);
    }
    if (!near(plan.key[row], expected[row].key)) return cat("row ", row, ": other key weights");
    if (!near(plan.value[row], expected[row].value)) return cat("row ", row, ": other value weights");
    if (!near(double{plan.bias[row]}, expected[row].bias)) {
      return cat("row ", row, ": bias ", plan.bias[row], ", expected ", expected[row].bias);
    }
  }
  return "";
}

// Where two plans differ in any bit, or "".
inline std::string difference(const kv::HeadPlan& left, const kv::HeadPlan& right) {
  const auto same = [](const kv::Sums& one, const kv::Sums& other) {
    const auto equal = [](const kv::Source& a, const kv::Source& b) { return a.row == b.row && a.weight == b.weight; };
    return one.begin == other.begin && std::ranges::equal(one.source, other.source, equal);
  };
  if (left.pivot != right.pivot) return "pivots differ";
  if (!same(left.key, right.key)) return "key sums differ";
  if (!same(left.value, right.value)) return "value sums differ";
  if (left.bias != right.bias) return "biases differ";
  return left.dense == right.dense && left.dense_value == right.dense_value ? "" : "dense values differ";
}

// [rows, dim] the new rows that sums make of old ones.
inline std::vector<float> apply(const kv::Sums& sums, const std::vector<float>& old_rows, uint32_t dim) {
  std::vector<float> rows;
  for (uint32_t row = 0; row < sums.count(); ++row) {
    for (uint32_t at = 0; at < dim; ++at) {
      double sum = 0.0;
      for (const kv::Source& source : sums[row]) sum += double{source.weight} * double{old_rows[source.row * dim + at]};
      rows.push_back(static_cast<float>(sum));
    }
  }
  return rows;
}

// Rows left when one goes at a time, as a growing cache would drop them: of those not safe the lowest score, of equals
// the last.
template <typename Score>
std::vector<uint32_t> evict_one_by_one(uint32_t n, uint32_t budget, const std::set<uint32_t>& safe,
                                       const Score& score) {
  std::list<uint32_t> rows;
  for (uint32_t row = 0; row < n; ++row) rows.push_back(row);
  while (rows.size() > budget) {
    auto worst = rows.end();
    for (auto row = rows.begin(); row != rows.end(); ++row) {
      if (!safe.contains(*row) && (worst == rows.end() || score(*row) <= score(*worst))) worst = row;
    }
    rows.erase(worst);
  }
  return {rows.begin(), rows.end()};
}

// The newest, then the first rows, then older ones, as many as there is room for.
inline std::set<uint32_t> safe_rows(uint32_t n, uint32_t budget, uint32_t sinks, uint32_t recent) {
  std::set<uint32_t> safe{n - 1};
  for (uint32_t row = 0; row < sinks && safe.size() < budget; ++row) safe.insert(row);
  for (uint32_t back = 2; back <= std::min(recent, n) && safe.size() < budget; ++back) safe.insert(n - back);
  return safe;
}

// Calls check(head, budget) for many random heads.
template <typename Check>
void with_random_heads(const Check& check) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Rng rng(seed);
    const uint32_t n = 2 + rng.below(150);
    TestHead head = rng.below(2) ? random_head(n, 4, rng) : merged_head(n, 4, rng);
    if (seed % 5 == 0) {  // ties
      for (float& attention : head.attn_sum) attention = static_cast<float>(rng.below(3));
      head.attn_win = head.attn_sum;
    }
    check(head, 1 + rng.below(n - 1));
  }
}

}  // namespace kvmerger::policy
