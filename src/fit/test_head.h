// For the tests of this folder: random heads with reference queries, plans for them, and what queries get from rows, in
// plain double code.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "kv/plan.h"
#include "kv/views.h"

namespace kvmerger::fit {

using Doubles = std::vector<double>;

inline float random_normal(Rng& rng) {  // Box-Muller
  constexpr double kTwoPi = 6.283185307179586;
  return static_cast<float>(std::sqrt(-2.0 * std::log(1.0 - rng.uniform())) * std::cos(kTwoPi * rng.uniform()));
}

inline std::vector<float> random_normals(size_t count, Rng& rng) {
  std::vector<float> values(count);
  for (float& value : values) value = random_normal(rng);
  return values;
}

struct TestHead {
  uint32_t rows, dim;
  std::vector<float> key, value, query, bias, mass;
  std::vector<int32_t> pos;

  kv::HeadView view() const {
    kv::HeadView view{{key.data(), rows, dim}, {value.data(), rows, dim}, pos, mass, bias, {}, {}, {}, {}};
    view.query = {query.data(), static_cast<uint32_t>(query.size() / dim), dim};
    return view;
  }
};

// Neighbours alike, some rows merged before.
inline TestHead random_head(uint32_t rows, uint32_t dim, uint32_t queries, Rng& rng) {
  TestHead head{rows,
                dim,
                random_normals(size_t{rows} * dim, rng),
                random_normals(size_t{rows} * dim, rng),
                random_normals(size_t{queries} * dim, rng),
                {},
                {},
                {}};
  for (size_t at = dim; at < head.key.size(); ++at) {
    head.key[at] = 0.8F * head.key[at - dim] + 0.6F * head.key[at];
    head.value[at] = 0.5F * head.value[at - dim] + 0.9F * head.value[at];
  }
  for (uint32_t row = 0; row < rows; ++row) {
    head.pos.push_back(static_cast<int32_t>(3 * row));
    head.bias.push_back(rng.below(3) == 0 ? std::log(static_cast<float>(1 + rng.below(3))) : 0.0F);
    head.mass.push_back(std::exp(head.bias.back()));
  }
  return head;
}

// Every `step`-th row and the newest.
inline kv::HeadPlan eviction(const kv::HeadView& head, uint32_t step) {
  std::vector<uint32_t> kept;
  for (uint32_t row = 0; row < head.rows(); ++row) {
    if (row % step == 0 || row + 1 == head.rows()) kept.push_back(row);
  }
  return kv::keep_rows(head, kept);
}

// Runs of `step` rows become their mean, with the logarithm of their summed weights as bias.
inline kv::HeadPlan merging(const kv::HeadView& head, uint32_t step) {
  kv::HeadPlan plan;
  for (uint32_t first = 0; first < head.rows(); first += step) {
    const uint32_t end = std::min(head.rows(), first + step);
    std::vector<kv::Source> sources;
    double weight = 0.0;
    for (uint32_t row = first; row < end; ++row) {
      sources.push_back({row, 1.0F / static_cast<float>(end - first)});
      weight += std::exp(double{head.bias[row]});
    }
    plan.key.add(sources);
    plan.value.add(sources);
    plan.bias.push_back(static_cast<float>(std::log(weight)));
    plan.pivot.push_back(end - 1);
  }
  return plan;
}

// Rows as they take part in attention; key, value: [rows][head_dim].
struct LiteralRows {
  std::vector<Doubles> key, value;
  Doubles bias;
};

inline Doubles doubles(std::span<const float> row) { return {row.begin(), row.end()}; }

inline LiteralRows all_rows(const kv::HeadView& head) {
  LiteralRows rows;
  for (uint32_t row = 0; row < head.rows(); ++row) {
    rows.key.push_back(doubles(head.key[row]));
    rows.value.push_back(doubles(head.value[row]));
    rows.bias.push_back(double{head.bias[row]});
  }
  return rows;
}

inline Doubles weighted_sum(const kv::Rows& old_rows, std::span<const kv::Source> sources) {
  Doubles sum(old_rows.dim);
  for (const kv::Source& source : sources) {
    for (uint32_t at = 0; at < old_rows.dim; ++at) sum[at] += double{source.weight} * double{old_rows[source.row][at]};
  }
  return sum;
}

inline LiteralRows planned_rows(const kv::HeadView& head, const kv::HeadPlan& plan) {
  LiteralRows rows;
  const uint32_t dim = head.key.dim;
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    rows.key.push_back(weighted_sum(head.key, plan.key[row]));
    rows.value.push_back(weighted_sum(head.value, plan.value[row]));
    rows.bias.push_back(double{plan.bias[row]});
    if (plan.dense.empty() || plan.dense[row] < 0) continue;
    for (uint32_t at = 0; at < dim; ++at) {
      rows.value[row][at] = double{plan.dense_value[static_cast<size_t>(plan.dense[row]) * dim + at]};
    }
  }
  return rows;
}

// [rows] q.k / sqrt(d), without bias.
inline Doubles literal_logits(std::span<const float> query, const LiteralRows& rows) {
  Doubles logits;
  for (const Doubles& key : rows.key) {
    double dot = 0.0;
    for (size_t at = 0; at < key.size(); ++at) dot += double{query[at]} * key[at];
    logits.push_back(dot / std::sqrt(static_cast<double>(key.size())));
  }
  return logits;
}

struct LiteralAnswer {
  double largest = 0.0, sum = 0.0;  // of logits, of exp(logit - largest)
  Doubles output;                   // [head_dim]
};

inline LiteralAnswer literal_answer(std::span<const float> query, const LiteralRows& rows) {
  Doubles logits = literal_logits(query, rows);
  for (size_t row = 0; row < logits.size(); ++row) logits[row] += rows.bias[row];
  LiteralAnswer answer{logits[0], 0.0, Doubles(query.size())};
  for (const double logit : logits) answer.largest = std::max(answer.largest, logit);
  for (const double logit : logits) answer.sum += std::exp(logit - answer.largest);
  for (size_t row = 0; row < logits.size(); ++row) {
    const double share = std::exp(logits[row] - answer.largest) / answer.sum;
    for (size_t at = 0; at < query.size(); ++at) answer.output[at] += share * rows.value[row][at];
  }
  return answer;
}

// The fourth, eighth, ... query is held out.
inline std::vector<uint32_t> queries_of(const kv::HeadView& head, bool held_out) {
  std::vector<uint32_t> chosen;
  for (uint32_t query = 0; query < head.query.count; ++query) {
    if ((query % 4 == 3) == held_out) chosen.push_back(query);
  }
  return chosen;
}

// sum |o' - o|^2 / sum |o|^2 over these queries.
inline double literal_error(const kv::HeadView& head, const kv::HeadPlan& plan, bool held_out) {
  const LiteralRows before = all_rows(head), after = planned_rows(head, plan);
  double wrong = 0.0, all = 0.0;
  for (const uint32_t query : queries_of(head, held_out)) {
    const Doubles full = literal_answer(head.query[query], before).output;
    const Doubles own = literal_answer(head.query[query], after).output;
    for (size_t at = 0; at < full.size(); ++at) {
      wrong += (own[at] - full[at]) * (own[at] - full[at]);
      all += full[at] * full[at];
    }
  }
  return wrong / all;
}

}  // namespace kvmerger::fit
