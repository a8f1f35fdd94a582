// Laws of merging and eviction that hold for every query, on the store itself: outputs come from plain attention in
// double precision over the store's rows, and from the kernels beside it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>

#include "kernels/attention.h"
#include "kv/test_store.h"
#include "policy/policy.h"

namespace kvmerger::kv {
namespace {

using Vector = std::vector<double>;
using Set = std::vector<uint32_t>;  // rows, increasing

constexpr uint32_t kDim = 16, kQueries = 12;

double distance(const Vector& left, const Vector& right) {
  double sum = 0;
  for (size_t dim = 0; dim < left.size(); ++dim) sum += std::pow(left[dim] - right[dim], 2);
  return std::sqrt(sum);
}
double norm(const Vector& vector) { return distance(vector, Vector(vector.size())); }

// a + factor * (b - c)
Vector moved(Vector a, double factor, const Vector& b, const Vector& c) {
  for (size_t dim = 0; dim < a.size(); ++dim) a[dim] += factor * (b[dim] - c[dim]);
  return a;
}

// softmax(q.k / sqrt(d) + bias) over some rows of a head.
struct Attended {
  Vector output;
  Vector share;  // of each of the rows
};
Attended attention(const HeadView& head, const Set& rows, std::span<const float> query) {
  Vector logits;
  for (const uint32_t row : rows) {
    double dot = 0;
    for (uint32_t dim = 0; dim < kDim; ++dim) dot += double{query[dim]} * double{head.key[row][dim]};
    logits.push_back(dot / std::sqrt(double{kDim}) + double{head.bias[row]});
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  Attended result{Vector(kDim), {}};
  double sum = 0;
  for (const double logit : logits) sum += result.share.emplace_back(std::exp(logit - largest));
  for (size_t index = 0; index < rows.size(); ++index) {
    result.share[index] /= sum;
    for (uint32_t dim = 0; dim < kDim; ++dim)
      result.output[dim] += result.share[index] * double{head.value[rows[index]][dim]};
  }
  return result;
}

Set all_rows(const HeadView& head) {
  Set rows(head.rows());
  std::iota(rows.begin(), rows.end(), 0U);
  return rows;
}
Set without(const HeadView& head, const Set& gone) {
  Set rows = all_rows(head);
  std::erase_if(rows, [&](uint32_t row) { return std::binary_search(gone.begin(), gone.end(), row); });
  return rows;
}

double share_of(const HeadView& head, const Set& set, std::span<const float> query) {
  const Attended whole = attention(head, all_rows(head), query);
  double share = 0;
  for (const uint32_t row : set) share += whole.share[row];
  return share;
}

Vector kernel_output(const kernels::HeadRows& head, std::span<const float> query) {
  const float* pointer = query.data();
  const kernels::Queries queries{&pointer, 1, nullptr, 1.0F / std::sqrt(static_cast<float>(kDim))};
  std::vector<float> scratch(kernels::attend_scratch(1, head.rows, kDim, false)), acc(kDim), output(kDim);
  float max = 0, sum = 0;
  const kernels::Partial partial{&max, &sum, acc.data()};
  kernels::attend(head, 0, head.rows, queries, partial, nullptr, scratch.data());
  float* to = output.data();
  kernels::combine(partial, 1, 1, kDim, &to);
  return {output.begin(), output.end()};
}

// A cache of one head; rows are changed by what a test does to `key` and `value` before `store`.
class Cache {
 public:
  Cache(uint32_t rows, uint64_t seed, RowType type = RowType::kF32)
      : type_(type), rng_(seed), key(random_values(rng_, rows * kDim)), value(random_values(rng_, rows * kDim)) {
    for (float& number : key) number *= 2;
    for (uint32_t query = 0; query < kQueries; ++query) queries_.push_back(random_values(rng_, kDim));
    for (std::vector<float>& query : queries_) {
      for (float& number : query) number *= 3;
    }
  }

  void copy_key(uint32_t from, uint32_t to) { std::copy_n(&key[from * kDim], kDim, &key[to * kDim]); }
  void copy_value(uint32_t from, uint32_t to) { std::copy_n(&value[from * kDim], kDim, &value[to * kDim]); }
  void equal_keys(const Set& set) {
    for (const uint32_t row : set) copy_key(set[0], row);
  }

  Store store() const {
    Store store({.layers = 1, .heads = 1, .head_dim = kDim, .key_type = type_, .value_type = type_, .stats = {}});
    const auto rows = static_cast<uint32_t>(key.size() / kDim);
    store.reserve(rows);
    store.append(0, 0, rows, key.data(), value.data(), kDim, 0);
    return store;
  }
  const std::vector<std::vector<float>>& queries() const { return queries_; }
  double tolerance() const { return type_ == RowType::kF32 ? 1e-5 : 2e-3; }

 private:
  RowType type_;
  Rng rng_;
  std::vector<std::vector<float>> queries_;

 public:
  std::vector<float> key, value;  // [rows, kDim]
};

HeadView head_of(const Store::LayerData& data) { return data.view.heads[0]; }

// The output that a law foretells for a query, against both of ours.
template <typename Law>
void check_outputs(const Cache& cache, const Store& store, const Law& law) {
  const Store::LayerData data = store.view(0);
  for (const std::vector<float>& query : cache.queries()) {
    const Vector expected = law(query);
    const double allowed = cache.tolerance() * std::max(1.0, norm(expected));
    CHECK(distance(attention(head_of(data), all_rows(head_of(data)), query).output, expected) <= allowed);
    CHECK(distance(kernel_output(store.head(0, 0), query), expected) <= allowed);
  }
}

void check_same(const Cache& cache, const Store& store, const Store& other) {
  const Store::LayerData data = other.view(0);
  check_outputs(cache, store, [&](std::span<const float> query) {
    return attention(head_of(data), all_rows(head_of(data)), query).output;
  });
}

enum class Values { kMean, kSum };

// Each set becomes one row at its last member: the mean with the logarithm of the summed masses e^bias as bias, or the
// sum, where a row that stands for c rows holds their sum already and counts c times in the key.
HeadPlan merge(const HeadView& head, const std::vector<Set>& sets, Values values, bool with_bias) {
  HeadPlan plan;
  for (uint32_t row = 0; row < head.rows(); ++row) {
    const Set* set = nullptr;
    for (const Set& one : sets) set = std::binary_search(one.begin(), one.end(), row) ? &one : set;
    if (!set) plan.keep(head, row);
    if (!set || set->back() != row) continue;
    const auto weight = [&](uint32_t from) {
      return values == Values::kMean ? std::exp(double{head.bias[from]}) : double{head.mass[from]};
    };
    double sum = 0;
    for (const uint32_t from : *set) sum += weight(from);
    std::vector<Source> key, value;
    for (const uint32_t from : *set) {
      key.push_back({from, static_cast<float>(weight(from) / sum)});
      value.push_back(values == Values::kMean ? key.back() : Source{from, 1.0F});
    }
    plan.key.add(key);
    plan.value.add(value);
    plan.bias.push_back(with_bias ? static_cast<float>(std::log(sum)) : 0.0F);
    plan.pivot.push_back(row);
  }
  return plan;
}

void merge_in(Store& store, const std::vector<Set>& sets, Values values, bool with_bias) {
  const Store::LayerData data = store.view(0);
  store.apply(0, {merge(head_of(data), sets, values, with_bias)});
}

void for_both_types(const std::function<void(RowType)>& test) {
  for (const RowType type : {RowType::kF32, RowType::kF16}) test(type);
}

}  // namespace

TEST_CASE("law: the identity plan leaves every byte") {
  for_both_types([](RowType type) {
    Store store = Cache(50, 1, type).store();
    const std::vector<std::byte> before = saved(store);
    const Store::LayerData data = store.view(0);
    store.apply(0, {keep_all(head_of(data))});
    CHECK(saved(store) == before);
  });
}

TEST_CASE("law 1: c equal rows are one row with bias log c") {
  for_both_types([](RowType type) {
    for (const Set& set :
         {Set{3, 4}, Set{0, 7, 20, 21, 38}, Set{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}}) {
      Cache cache(40, set.size(), type);
      cache.equal_keys(set);
      for (const uint32_t row : set) cache.copy_value(set[0], row);
      Store merged = cache.store();
      merge_in(merged, {set}, Values::kMean, true);
      CHECK(merged.rows(0, 0) == 41 - set.size());
      check_same(cache, merged, cache.store());
    }
  });
}

TEST_CASE("law 1, the other way: one row is two equal ones with bias -log 2 each") {
  for_both_types([](RowType type) {
    Cache twice(33, 2, type);
    twice.copy_key(8, 9);
    twice.copy_value(8, 9);
    Cache once = twice;
    once.key.erase(once.key.begin() + 9 * kDim, once.key.begin() + 10 * kDim);
    once.value.erase(once.value.begin() + 9 * kDim, once.value.begin() + 10 * kDim);
    Store halves = twice.store();
    const Store::LayerData data = halves.view(0);
    HeadPlan plan = keep_all(head_of(data));
    plan.bias[8] = plan.bias[9] = static_cast<float>(-std::log(2.0));
    halves.apply(0, {plan});
    check_same(once, halves, once.store());
  });
}

TEST_CASE("law 2: equal keys with any values: mean and log n leave every output") {
  for_both_types([](RowType type) {
    const Set set = {2, 3, 4, 11, 19, 20};
    Cache cache(40, 3, type);
    cache.equal_keys(set);
    Store merged = cache.store();
    merge_in(merged, {set}, Values::kMean, true);
    check_same(cache, merged, cache.store());
  });
}

TEST_CASE("law 3: a value sum without bias makes the output o / (1 - rho (1 - 1/n))") {
  const Set set = {5, 6, 7, 8};
  Cache cache(24, 4);
  cache.equal_keys(set);
  const Store full = cache.store();
  Store merged = cache.store();
  merge_in(merged, {set}, Values::kSum, false);
  const Store::LayerData data = full.view(0);
  const HeadView& head = head_of(data);
  check_outputs(cache, merged, [&](std::span<const float> query) {
    const double rho = share_of(head, set, query), n = 4;
    const Vector zero(kDim), output = attention(head, all_rows(head), query).output;
    return moved(zero, 1 / (1 - rho * (1 - 1 / n)), output, zero);
  });
}

TEST_CASE("law 3: a mean without bias is off by (rho' - rho)(u - o_R)") {
  const Set set = {5, 6, 7, 8};
  Cache cache(24, 5);
  cache.equal_keys(set);
  const Store full = cache.store();
  Store merged = cache.store();
  merge_in(merged, {set}, Values::kMean, false);
  const Store::LayerData data = full.view(0);
  const HeadView& head = head_of(data);
  Vector mean(kDim);
  for (const uint32_t row : set) {
    for (uint32_t dim = 0; dim < kDim; ++dim) mean[dim] += double{head.value[row][dim]} / 4;
  }
  check_outputs(cache, merged, [&](std::span<const float> query) {
    const double rho = share_of(head, set, query);
    const double alone = rho / 4 / (1 - rho + rho / 4);  // e^x / (Z_R + e^x)
    const Vector rest = attention(head, without(head, set), query).output;
    return moved(attention(head, all_rows(head), query).output, alone - rho, mean, rest);
  });
}

TEST_CASE("law 6: with equal keys, merging in two steps in any order is merging in one, counts add") {
  const Set set = {4, 5, 6, 7, 8};
  struct Way {
    std::vector<Set> first;
    Set second;  // rows after the first step
  };
  const std::vector<Way> ways = {
      {{{4, 5}, {6, 7, 8}}, {4, 5}}, {{{7, 8}}, {4, 5, 6, 7}}, {{{4, 6, 8}, {5, 7}}, {4, 5}}};
  for (const Values values : {Values::kMean, Values::kSum}) {
    const bool with_bias = values == Values::kMean;
    Cache cache(20, 6);
    cache.equal_keys(set);
    Store once = cache.store();
    merge_in(once, {set}, values, with_bias);
    const Store::LayerData one = once.view(0);
    CHECK(head_of(one).mass[4] == 5.0F);
    for (const Way& way : ways) {
      Store twice = cache.store();
      merge_in(twice, way.first, values, with_bias);
      merge_in(twice, {way.second}, values, with_bias);
      const Store::LayerData two = twice.view(0);
      REQUIRE(head_of(two).rows() == 16);
      CHECK(head_of(two).mass[4] == 5.0F);
      CHECK(std::abs(head_of(two).bias[4] - head_of(one).bias[4]) < 1e-5F);
      for (uint32_t dim = 0; dim < kDim; ++dim) {
        CHECK(std::abs(head_of(two).key[4][dim] - head_of(one).key[4][dim]) < 1e-5F);
        CHECK(std::abs(head_of(two).value[4][dim] - head_of(one).value[4][dim]) < 1e-5F);
      }
      check_same(cache, twice, once);
      if (with_bias) check_same(cache, twice, cache.store());  // law 2, in two steps
    }
  }
}

TEST_CASE("law 8: one constant added to all biases of a head changes nothing") {
  for_both_types([](RowType type) {
    for (const float constant : {-30.0F, 0.7F, 12.0F}) {
      Cache cache(40, 7, type);
      Store store = cache.store(), shifted = cache.store();
      const Store::LayerData data = store.view(0);
      HeadPlan plan = keep_all(head_of(data));
      for (uint32_t row = 0; row < 40; ++row) plan.bias[row] = static_cast<float>(row % 5) / 2;
      store.apply(0, {plan});
      for (float& bias : plan.bias) bias += constant;
      shifted.apply(0, {plan});
      check_same(cache, shifted, store);
    }
  });
}

TEST_CASE("law 9: eviction is a plan of single sources, and the output that of the rows kept") {
  for_both_types([](RowType type) {
    Cache cache(60, 8, type);
    Store store = cache.store();
    Rng rng(8);
    const Store::LayerData before = store.view(0);
    const LayerPlan plan = random_eviction(before.view, rng, 0.5);
    const Set kept = plan[0].pivot;
    store.apply(0, plan);
    const Store::LayerData after = store.view(0);
    for (uint32_t row = 0; row < kept.size(); ++row) {
      const HeadView &old = head_of(before), &head = head_of(after);
      CHECK(std::equal(head.key[row].begin(), head.key[row].end(), old.key[kept[row]].begin()));
      CHECK(std::equal(head.value[row].begin(), head.value[row].end(), old.value[kept[row]].begin()));
      CHECK(head.bias[row] == 0.0F);
    }
    check_outputs(cache, store,
                  [&](std::span<const float> query) { return attention(head_of(before), kept, query).output; });
  });
}

TEST_CASE("law 10: evicting moves the output by rho (o_kept - o_evicted)") {
  const Set evicted = {0, 3, 9, 10, 11, 25};
  const Cache cache(40, 9);
  Store store = cache.store();
  const Store::LayerData data = store.view(0);
  const HeadView& head = head_of(data);
  store.apply(0, {keep_rows(head, without(head, evicted))});
  check_outputs(cache, store, [&](std::span<const float> query) {
    const Vector kept = attention(head, without(head, evicted), query).output;
    const Vector gone = attention(head, evicted, query).output;
    return moved(attention(head, all_rows(head), query).output, share_of(head, evicted, query), kept, gone);
  });
}

TEST_CASE("law 10: one evicted row moves the output by a / (1 - a) times its value's distance from it") {
  const Cache cache(40, 10);
  const Store full = cache.store();
  const Store::LayerData data = full.view(0);
  const HeadView& head = head_of(data);
  for (const uint32_t row : {0U, 17U, 38U}) {
    Store store = cache.store();
    store.apply(0, {keep_rows(head, without(head, {row}))});
    for (const std::vector<float>& query : cache.queries()) {
      const Vector output = attention(head, all_rows(head), query).output;
      const double share = share_of(head, {row}, query);
      const Vector value(head.value[row].begin(), head.value[row].end());
      const double expected = share / (1 - share) * distance(value, output);
      CHECK(std::abs(distance(kernel_output(store.head(0, 0), query), output) - expected) <= 1e-5);
    }
  }
}

TEST_CASE("law 14: KVMerger's keys are convex sums, its values sums, and no key gets longer") {
  const auto method = policy::make("kvmerger:skip=none");
  StoreShape shape{.layers = 1,
                   .heads = 3,
                   .head_dim = kDim,
                   .key_type = RowType::kF32,
                   .value_type = RowType::kF32,
                   .stats = {true}};
  Store store(shape);
  Rng rng(11);
  append_everywhere(store, rng, 120, 0);
  const Store::LayerData before = store.view(0);
  const std::vector<uint32_t> rows = {40, 60, 90};
  const LayerPlan plan = method->plan(before.view, rows);
  store.apply(0, plan);
  const Store::LayerData after = store.view(0);
  const auto length = [](std::span<const float> key) { return norm({key.begin(), key.end()}); };
  uint32_t merged = 0;
  for (uint32_t index = 0; index < 3; ++index) {
    REQUIRE(plan[index].rows() <= rows[index]);
    for (uint32_t row = 0; row < plan[index].rows(); ++row) {
      double key = 0, value = 0, longest = 0;
      for (const Source& source : plan[index].key[row]) {
        CHECK(source.weight >= 0.0F);
        key += double{source.weight};
        longest = std::max(longest, length(before.view.heads[index].key[source.row]));
      }
      for (const Source& source : plan[index].value[row]) value += double{source.weight};
      const auto sources = static_cast<double>(plan[index].key[row].size());
      merged += sources > 1 ? 1 : 0;
      CHECK(std::abs(key - 1) < 1e-5);
      CHECK(std::abs(value - sources) < 1e-5 * sources);
      CHECK(length(after.view.heads[index].key[row]) <= longest * (1 + 1e-6));
      CHECK(double{after.view.heads[index].mass[row]} == sources);
    }
  }
  CHECK(merged > 20);
}

}  // namespace kvmerger::kv
