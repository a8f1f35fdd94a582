// KVMerger against a literal second implementation of its pseudo-code, and against a torch program.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "policy/test_heads.h"
#include "policy/test_vectors.h"

namespace kvmerger::policy {
namespace {

using RowSet = std::set<uint32_t>;

struct Settings {
  std::optional<double> epsilon, sigma = 5.0;
  std::optional<uint32_t> recent, heavy;  // rows; none: by the share of the budget
  double rel = 1.0;
  uint32_t sinks = 0;
  bool sum = true, bias = false, pivot_key = false, exact = true, merge = true;
};

double cosine(const TestHead& head, uint32_t row) {
  double product = 0, left = 0, right = 0;
  for (uint32_t at = 0; at < head.dim; ++at) {
    const double a = double{head.key[row * head.dim + at]}, b = double{head.key[(row + 1) * head.dim + at]};
    product += a * b, left += a * a, right += b * b;
  }
  return left * right == 0 ? 0 : std::min(1.0, product / std::sqrt(left) / std::sqrt(right));
}

double squared_distance(const TestHead& head, uint32_t left, uint32_t right) {
  double sum = 0;
  for (uint32_t at = 0; at < head.dim; ++at) {
    const double step = double{head.key[left * head.dim + at]} - double{head.key[right * head.dim + at]};
    sum += step * step;
  }
  return sum;
}

// The row that comes first in (-attention, row).
uint32_t most_attended(const TestHead& head, const RowSet& rows) {
  return *std::ranges::min_element(rows, {}, [&](uint32_t row) { return std::pair(-head.attn_sum[row], row); });
}

// Sinks, the last `recent` rows and the `heavy` most attended of the rest.
RowSet protected_rows(const TestHead& head, uint32_t sinks, uint32_t recent, uint32_t heavy) {
  RowSet taken, rest;
  for (uint32_t row = 0; row < head.rows; ++row) {
    (row < sinks || row + recent >= head.rows ? taken : rest).insert(row);
  }
  for (; heavy > 0; --heavy) {
    const uint32_t best = most_attended(head, rest);
    taken.insert(best);
    rest.erase(best);
  }
  return taken;
}

RowSet protected_rows(const TestHead& head, const Settings& settings, uint32_t budget) {
  const uint32_t n = head.rows;
  const bool ample = budget * 10 > n * 4;
  uint32_t recent = std::max(1U, settings.recent.value_or(n * (ample ? 17 : 8) / 100));
  uint32_t heavy = settings.heavy.value_or(n * (ample ? 12 : 2) / 100);
  const uint32_t sinks = std::min(settings.sinks, budget - 1), room = budget - sinks;
  if (recent + heavy > room) {
    const uint32_t wanted = recent + heavy;
    recent = std::max(1U, recent * room / wanted);
    heavy = room - recent;
  }
  return protected_rows(head, sinks, recent, heavy);
}

std::vector<RowSet> merging_sets(const TestHead& head, const RowSet& alone, const Settings& settings,
                                 std::optional<uint32_t> budget) {
  std::set<std::pair<float, uint32_t>> admissible;  // (-cosine, row), the best first
  for (uint32_t row = 0; row + 1 < head.rows; ++row) {
    if (!alone.contains(row) && !alone.contains(row + 1)) {
      admissible.emplace(-static_cast<float>(cosine(head, row)), row);
    }
  }
  RowSet links;
  for (const auto& [negative, row] : admissible) {
    const bool by_count = settings.exact && budget;
    if (by_count ? links.size() < head.rows - *budget : double{-negative} > settings.epsilon.value_or(0.75)) {
      links.insert(row);
    }
  }
  std::vector<RowSet> sets{{0}};
  for (uint32_t row = 1; row < head.rows; ++row) {
    if (!links.contains(row - 1)) sets.emplace_back();
    sets.back().insert(row);
  }
  return sets;
}

// Removes the least attended sets that hold no protected row; of equals the last.
void evict(std::vector<RowSet>& sets, const TestHead& head, const RowSet& alone, size_t budget) {
  const auto attention = [&](const RowSet& set) {
    double sum = 0;
    for (uint32_t row : set) sum += double{head.attn_sum[row]};
    return static_cast<float>(sum);
  };
  while (sets.size() > budget) {
    auto worst = sets.end();
    for (auto set = sets.begin(); set != sets.end(); ++set) {
      if (alone.contains(*set->begin())) continue;
      if (worst == sets.end() || attention(*set) <= attention(*worst)) worst = set;
    }
    sets.erase(worst);
  }
}

ExpectedRow merge(const TestHead& head, const RowSet& set, const Settings& settings) {
  const uint32_t first = *set.begin();
  if (set.size() == 1) return {first, {{first, 1.0}}, {{first, 1.0}}, double{head.bias[first]}};
  const uint32_t pivot = most_attended(head, set);
  double mean = 0, total = 0, count = 0, mass = 0;
  for (uint32_t row : set) mean += squared_distance(head, pivot, row) / static_cast<double>(set.size() - 1);
  const double variance = settings.sigma ? *settings.sigma * *settings.sigma : settings.rel * mean;
  std::map<uint32_t, double> weight;
  for (uint32_t row : set) {
    const double kernel = variance > 0 ? std::exp(-squared_distance(head, pivot, row) / (2 * variance)) : 1.0;
    weight[row] = kernel * (settings.bias ? std::exp(double{head.bias[row]}) : double{head.mass[row]});
    total += weight[row];
    count += double{head.mass[row]};
    mass += std::exp(double{head.bias[row]});
  }
  ExpectedRow made{pivot, {}, {}, settings.bias ? std::log(mass) : 0.0};
  for (uint32_t row : set) {
    const double share = weight[row] / total;
    made.key[row] = settings.pivot_key ? (row == pivot ? 1.0 : 0.0) : share;
    made.value[row] = settings.sum ? count * share / double{head.mass[row]} : share;
  }
  return made;
}

std::vector<ExpectedRow> literal_plan(const TestHead& head, const Settings& settings, std::optional<uint32_t> budget) {
  const RowSet alone = protected_rows(head, settings, budget.value_or(head.rows));
  std::vector<RowSet> sets = merging_sets(head, alone, settings, budget);
  if (budget) evict(sets, head, alone, *budget);
  if (!settings.merge) {  // as many single rows: the protected ones and the best of the others
    const size_t rows = sets.size();
    sets.clear();
    for (uint32_t row = 0; row < head.rows; ++row) sets.push_back({row});
    evict(sets, head, alone, rows);
  }
  std::vector<ExpectedRow> rows;
  for (const RowSet& set : sets) rows.push_back(merge(head, set, settings));
  return rows;
}

std::string spec_of(const Settings& settings, uint32_t n) {
  const auto share = [&](std::optional<uint32_t> rows) {  // one that leads to this many rows of n
    return rows ? cat((*rows + 0.5) / n) : "auto";
  };
  const auto number = [](std::optional<double> value) { return value ? cat(*value) : "auto"; };
  const auto flag = [](bool on) { return on ? "on" : "off"; };
  return cat("kvmerger:epsilon=", number(settings.epsilon), ",sigma=", number(settings.sigma), ",rel=", settings.rel,
             ",recent=", share(settings.recent), ",heavy=", share(settings.heavy), ",sinks=", settings.sinks,
             ",value=", settings.sum ? "sum" : "mean", ",bias=", flag(settings.bias),
             ",key=", settings.pivot_key ? "pivot" : "merged", ",exact=", flag(settings.exact),
             ",merge=", flag(settings.merge));
}

template <typename T>
T one_of(Rng& rng, std::initializer_list<T> values) {
  return values.begin()[rng.below(static_cast<uint32_t>(values.size()))];
}

Settings random_settings(Rng& rng, uint32_t n) {
  Settings settings;
  settings.epsilon = one_of<std::optional<double>>(rng, {std::nullopt, 0.6, 0.75, 0.9, -1.01});
  settings.sigma = one_of<std::optional<double>>(rng, {std::nullopt, 1.0, 5.0, 20.0});
  if (n >= 10) {
    settings.recent = one_of<std::optional<uint32_t>>(rng, {std::nullopt, 0, 3, 9});
    settings.heavy = one_of<std::optional<uint32_t>>(rng, {std::nullopt, 0, 2, 7});
  }
  settings.rel = one_of(rng, {0.5, 1.0, 2.0});
  settings.sinks = one_of(rng, {0U, 0U, 1U, 4U});
  settings.sum = rng.below(2), settings.bias = rng.below(2), settings.pivot_key = rng.below(3) == 0;
  settings.exact = rng.below(3) > 0, settings.merge = rng.below(4) > 0;
  return settings;
}

TEST_CASE("kvmerger: literal second implementation") {
  for (uint64_t seed = 0; seed < 600; ++seed) {
    Rng rng(seed);
    const uint32_t n = one_of(rng, {2U, 3U, 10U, 24U, 60U, 100U, 150U});
    const TestHead head = rng.below(2) ? random_head(n, 6, rng) : merged_head(n, 6, rng);
    const Settings settings = random_settings(rng, n);
    const uint32_t budget = 1 + rng.below(n - 1);
    const std::string spec = spec_of(settings, n);
    CAPTURE(spec);
    CAPTURE(n);
    CAPTURE(budget);
    CHECK(difference(plan_of(spec, head, {budget}), literal_plan(head, settings, budget)) == "");
    if (settings.epsilon) CHECK(difference(plan_of(spec, head), literal_plan(head, settings, std::nullopt)) == "");
  }
}

TestHead head_of_vectors() {
  Rng rng(1);
  TestHead head = random_head(vectors::kRows, vectors::kDim, rng);
  head.key = vectors::kKey;
  head.value = vectors::kValue;
  head.attn_sum = vectors::kAttnSum;
  return head;
}

bool all_near(const std::vector<float>& found, const std::vector<float>& expected) {
  return std::ranges::equal(found, expected, [](float a, float b) { return near(double{a}, double{b}); });
}

TEST_CASE("kvmerger: as the torch program") {
  const TestHead head = head_of_vectors();
  const auto check = [&](const std::string& spec, uint32_t rows, const std::vector<float>& key,
                         const std::vector<float>& value, const std::vector<float>& bias) {
    CAPTURE(spec);
    const kv::HeadPlan plan = plan_of(spec, head, {rows});
    CHECK(all_near(apply(plan.key, head.key, head.dim), key));
    CHECK(all_near(apply(plan.value, head.value, head.dim), value));
    CHECK(all_near(plan.bias, bias));
  };
  check("kvmerger", 12, vectors::kSumKey, vectors::kSumValue, vectors::kSumBias);
  check("kvmerger:value=mean,bias=on", 12, vectors::kMeanKey, vectors::kMeanValue, vectors::kMeanBias);
  check("kvmerger:value=mean", 8, vectors::kLowKey, vectors::kLowValue, vectors::kLowBias);
}

TEST_CASE("kvmerger: layers left whole") {
  const auto whole = [](const std::string& spec, uint32_t layer) { return make(spec)->keeps_whole(layer, 30); };
  for (uint32_t layer = 0; layer < 30; ++layer) {
    CHECK(whole("kvmerger", layer) == (layer == 0 || layer == 1 || layer == 29));
    CHECK(!whole("kvmerger:skip=none", layer));
  }
}

TEST_CASE("kvmerger: it sizes itself when epsilon is given") {
  CHECK(!make("kvmerger")->sizes_itself());
  CHECK(make("kvmerger:epsilon=0.75")->sizes_itself());
  CHECK(!make("kvmerger:epsilon=auto")->sizes_itself());
}

}  // namespace
}  // namespace kvmerger::policy
