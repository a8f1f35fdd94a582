// Laws that the plans of correct methods obey, whatever the numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "policy/test_heads.h"

namespace kvmerger::policy {
namespace {

constexpr uint32_t kDim = 6;

const std::vector<std::string> kEvictions{
    "h2o",  "streaming_llm", "snapkv:window=8", "cam:merge=off", "kvmerger:merge=off", "kvzip",
    "tova", "knorm",         "keydiff",         "lagkv:lag=16",  "look_m:merge=off",   "d2o:merge=off"};
const std::vector<std::string> kMethods{"h2o",
                                        "streaming_llm",
                                        "snapkv:window=8,kernel=5",
                                        "cam",
                                        "cam:mode=expected",
                                        "kvmerger",
                                        "kvmerger:value=mean,bias=on,sigma=auto",
                                        "kvmerger:exact=off",
                                        "kvzip",
                                        "tova",
                                        "knorm",
                                        "keydiff",
                                        "look_m",
                                        "d2o"};

// True when both plans have the same rows made of the same old ones, with weights and biases equal to rounding.
bool same_plan(const kv::HeadPlan& left, const kv::HeadPlan& right) {
  const auto same = [](std::span<const kv::Source> one, std::span<const kv::Source> other) {
    return std::ranges::equal(one, other, [](const kv::Source& a, const kv::Source& b) {
      return a.row == b.row && std::abs(a.weight - b.weight) <= 1e-4F;
    });
  };
  if (left.pivot != right.pivot) return false;
  for (uint32_t row = 0; row < left.rows(); ++row) {
    if (!same(left.key[row], right.key[row]) || !same(left.value[row], right.value[row])) return false;
    if (std::abs(left.bias[row] - right.bias[row]) > 1e-4F) return false;
  }
  return true;
}

std::set<uint32_t> rows_of(std::span<const kv::Source> sources) {
  std::set<uint32_t> rows;
  for (const kv::Source& source : sources) rows.insert(source.row);
  return rows;
}

// Row i for every pair of old rows i and i + 1 that became one.
std::set<uint32_t> links_of(const kv::HeadPlan& plan) {
  std::set<uint32_t> links;
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    const std::set<uint32_t> rows = rows_of(plan.key[row]);
    for (uint32_t old_row : rows) {
      if (rows.contains(old_row + 1)) links.insert(old_row);
    }
  }
  return links;
}

double sum_of(std::span<const kv::Source> sources) {
  double sum = 0;
  for (const kv::Source& source : sources) sum += double{source.weight};
  return sum;
}

double norm(const float* row) {
  double sum = 0;
  for (uint32_t at = 0; at < kDim; ++at) sum += double{row[at]} * double{row[at]};
  return std::sqrt(sum);
}

TEST_CASE("law 9: eviction is one source, weight 1, the old bias") {
  Rng rng(9);
  const TestHead head = merged_head(90, kDim, rng);
  for (const std::string& spec : kEvictions) {
    CAPTURE(spec);
    const kv::HeadPlan plan = plan_of(spec, head, {33});
    CHECK(plan.rows() == 33);
    const kv::HeadView view = head.view({});
    CHECK(difference(plan, kv::keep_rows(view, plan.pivot)) == "");
  }
}

TEST_CASE("laws 11 and 14: sets are disjoint runs of unprotected rows, weights add to 1 and to the count") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Rng rng(seed);
    const uint32_t n = 100, recent = 10, budget = 40;
    const TestHead head = random_head(n, kDim, rng);
    const kv::HeadPlan plan = plan_of("kvmerger:recent=0.1,heavy=0.05", head, {budget});
    const std::vector<float> keys = apply(plan.key, head.key, kDim);
    CHECK(plan.rows() == budget);
    uint32_t next = 0, made_of = 0;
    for (uint32_t row = 0; row < plan.rows(); ++row) {
      const std::set<uint32_t> rows = rows_of(plan.key[row]);
      CHECK(*rows.begin() >= next);
      next = *rows.rbegin() + 1;
      CHECK(next - *rows.begin() == rows.size());
      CHECK((rows.size() == 1 || next <= n - recent));
      CHECK(rows_of(plan.value[row]) == rows);
      CHECK(sum_of(plan.key[row]) == doctest::Approx(1.0));
      CHECK(sum_of(plan.value[row]) == doctest::Approx(static_cast<double>(rows.size())));
      double longest = 0;
      for (const kv::Source& source : plan.key[row]) {
        CHECK(source.weight >= 0.0F);
        longest = std::max(longest, norm(&head.key[source.row * kDim]));
      }
      CHECK(norm(&keys[row * kDim]) <= longest * (1 + 1e-5));
      made_of += static_cast<uint32_t>(rows.size());
    }
    CHECK(made_of == n);  // links sufficed, nothing was dropped
  }
}

TEST_CASE("law 12: the budget is met, and a larger one uses a part of the links of a smaller") {
  Rng rng(12);
  const uint32_t n = 80, recent = 8;
  const TestHead head = random_head(n, kDim, rng);
  std::set<uint32_t> larger;
  for (uint32_t budget = n - 1; budget > recent; --budget) {
    const kv::HeadPlan plan = plan_of("kvmerger:recent=0.1,heavy=0", head, {budget});
    CHECK(plan.rows() == budget);
    const std::set<uint32_t> links = links_of(plan);
    CHECK(links.size() == n - budget);  // all but the recent rows can be linked
    CHECK(std::ranges::includes(links, larger));
    larger = links;
  }
}

TEST_CASE("law 12: what links cannot remove is dropped, the least attended first") {
  Rng rng(13);
  TestHead head = random_head(20, kDim, rng);
  for (uint32_t row = 0; row < 20; ++row) head.attn_sum[row] = row % 2 ? 1.0F + static_cast<float>(row) : 0.5F;
  head.attn_sum[4] = 0.1F;
  head.attn_sum[8] = 0.2F;
  // Recent: 19. Heavy: 1, 3, ..., 17. No two of the even rows are neighbours, so none can be merged.
  const kv::HeadPlan plan = plan_of("kvmerger:recent=0.05,heavy=0.45", head, {18});
  CHECK(plan.pivot == std::vector<uint32_t>{0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19});
}

TEST_CASE("law 13: nothing merges at epsilon 1 and above, everything below -1") {
  Rng rng(13);
  TestHead head = random_head(50, kDim, rng), equal = head;
  for (uint32_t row = 1; row < 50; ++row) std::copy_n(equal.key_of(0), kDim, equal.key_of(row));
  for (const TestHead& any : {head, equal}) {
    for (const char* epsilon : {"1", "1.01"}) {
      const kv::HeadPlan plan = plan_of(cat("kvmerger:epsilon=", epsilon), any);
      CHECK(kv::is_identity(plan, any.view({})));
    }
    const kv::HeadPlan plan = plan_of("kvmerger:epsilon=-1.01,recent=0.1,heavy=0", any);
    CHECK(plan.rows() == 6);
    CHECK(plan.key[0].size() == 45);
  }
  for (float& key : head.key) key = -key;
  std::ranges::fill(head.attn_sum, 0.0F);
  head.attn_sum[20] = 1.0F;  // one heavy row parts the run
  const kv::HeadPlan plan = plan_of("kvmerger:epsilon=-1.01,recent=0.02,heavy=0.02", head);
  CHECK(plan.rows() == 4);
  CHECK(plan.pivot == std::vector<uint32_t>{0, 20, 21, 49});
}

TEST_CASE("law 15: a wide kernel is the plain mean, a narrow one the pivot alone") {
  Rng rng(15);
  const TestHead head = random_head(60, kDim, rng);
  const kv::HeadPlan wide = plan_of("kvmerger:sigma=1000000", head, {25});
  const kv::HeadPlan narrow = plan_of("kvmerger:sigma=0.001", head, {25});
  const kv::HeadPlan narrow_mean = plan_of("kvmerger:sigma=0.001,value=mean", head, {25});
  CHECK(wide.pivot == narrow.pivot);
  for (uint32_t row = 0; row < wide.rows(); ++row) {
    const uint32_t pivot = wide.pivot[row];
    const double count = static_cast<double>(wide.key[row].size());
    for (const kv::Source& source : wide.key[row]) CHECK(source.weight == doctest::Approx(1.0 / count));
    const auto only_pivot = [&](double weight) { return std::map<uint32_t, double>{{pivot, weight}}; };
    CHECK(near(narrow.key[row], only_pivot(1.0)));
    CHECK(near(narrow.value[row], only_pivot(count)));
    CHECK(near(narrow_mean.value[row], only_pivot(1.0)));
  }
}

// Turns all keys by one random orthogonal matrix: a product of reflections.
void reflect(TestHead& head, Rng& rng) {
  for (uint32_t times = 0; times < 3; ++times) {
    const std::vector<float> axis = random_normals(rng, kDim);
    const double square = norm(axis.data()) * norm(axis.data());
    for (uint32_t row = 0; row < head.rows; ++row) {
      double along = 0;
      for (uint32_t at = 0; at < kDim; ++at) along += double{axis[at]} * double{head.key_of(row)[at]};
      for (uint32_t at = 0; at < kDim; ++at) {
        head.key_of(row)[at] -= static_cast<float>(2 * along / square * double{axis[at]});
      }
    }
  }
}

TEST_CASE("law 17: a common rotation of the keys and a shift of all positions change no plan") {
  Rng rng(17);
  const TestHead head = random_head(120, kDim, rng);
  TestHead turned = head, shifted = head;
  reflect(turned, rng);
  for (int32_t& pos : shifted.pos) pos += 1000;
  CHECK(norm(turned.key_of(5)) == doctest::Approx(norm(&head.key[5 * kDim])));
  for (const std::string& spec : kMethods) {
    CAPTURE(spec);
    CHECK(same_plan(plan_of(spec, head, {45}), plan_of(spec, turned, {45})));
    CHECK(difference(plan_of(spec, head, {45}), plan_of(spec, shifted, {45})) == "");
  }
}

TEST_CASE("law 17: lagkv looks at channels one by one, so that only a shift of all positions changes nothing") {
  Rng rng(18);
  const TestHead head = random_head(120, kDim, rng);
  TestHead turned = head, shifted = head;
  reflect(turned, rng);
  for (int32_t& pos : shifted.pos) pos += 1000;
  CHECK(difference(plan_of("lagkv:lag=16", head, {45}), plan_of("lagkv:lag=16", shifted, {45})) == "");
  CHECK(!same_plan(plan_of("lagkv:lag=16", head, {45}), plan_of("lagkv:lag=16", turned, {45})));
}

TEST_CASE("law 19: scaling single keys keeps the links, a common scale keeps the weights of a relative sigma") {
  Rng rng(19);
  const TestHead head = random_head(120, kDim, rng);
  TestHead uneven = head, larger = head;
  for (uint32_t row = 0; row < head.rows; ++row) {
    const float scale = static_cast<float>(0.1 + 5 * rng.uniform());
    for (uint32_t at = 0; at < kDim; ++at) uneven.key_of(row)[at] *= scale;
  }
  for (float& key : larger.key) key *= 3.0F;
  CHECK(links_of(plan_of("kvmerger", head, {45})) == links_of(plan_of("kvmerger", uneven, {45})));
  CHECK(links_of(plan_of("kvmerger:epsilon=0.8", head)) == links_of(plan_of("kvmerger:epsilon=0.8", uneven)));
  CHECK(same_plan(plan_of("kvmerger:sigma=auto", head, {45}), plan_of("kvmerger:sigma=auto", larger, {45})));
  CHECK(!same_plan(plan_of("kvmerger:sigma=5", head, {45}), plan_of("kvmerger:sigma=5", larger, {45})));
}

TEST_CASE("law 21: sum and mean of attention over the query heads of a group give the same plan") {
  Rng rng(21);
  const TestHead sum = random_head(120, kDim, rng);
  TestHead mean = sum;
  for (auto* attention : {&mean.attn_sum, &mean.attn_win}) {
    for (float& received : *attention) received /= 3.0F;
  }
  for (const std::string& spec : kMethods) {
    CAPTURE(spec);
    CHECK(same_plan(plan_of(spec, sum, {45}), plan_of(spec, mean, {45})));
  }
}

// The head after a plan, as a cache would hold it.
TestHead applied(const kv::HeadPlan& plan, const TestHead& head) {
  TestHead next{
      plan.rows(), kDim, apply(plan.key, head.key, kDim), apply(plan.value, head.value, kDim), {}, {}, {}, {}, {},
      {},          {}};
  next.bias = plan.bias;
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    next.pos.push_back(head.pos[plan.pivot[row]]);
    float mass = 0, attention = 0;
    for (const kv::Source& source : plan.key[row]) {
      mass += head.mass[source.row];
      attention += head.attn_sum[source.row];
    }
    next.mass.push_back(mass);
    next.attn_sum.push_back(attention);
  }
  return next;
}

TEST_CASE("law 6: with equal keys, merging in two steps equals one step") {
  Rng rng(6);
  TestHead head = random_head(41, kDim, rng);
  for (uint32_t row = 1; row < head.rows; ++row) std::copy_n(head.key_of(0), kDim, head.key_of(row));
  for (const std::string mode : {"value=sum,bias=off", "value=mean,bias=on"}) {
    CAPTURE(mode);
    const std::string spec = "kvmerger:recent=0,heavy=0," + mode;
    const TestHead once = applied(plan_of(spec, head, {2}), head);
    TestHead twice = applied(plan_of(spec, head, {17}), head);
    twice = applied(plan_of(spec, twice, {2}), twice);
    CHECK(once.mass == std::vector<float>{40.0F, 1.0F});
    CHECK(twice.mass == once.mass);
    for (uint32_t row = 0; row < 2; ++row) CHECK(near(double{twice.bias[row]}, double{once.bias[row]}));
    for (size_t at = 0; at < once.value.size(); ++at) CHECK(std::abs(twice.value[at] - once.value[at]) < 1e-4F);
  }
}

}  // namespace
}  // namespace kvmerger::policy
