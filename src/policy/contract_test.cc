// The contract of policy.h, for every row of the table, each of its options at the ends of its range, many sizes and
// odd inputs. Nothing here knows a method by name.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>

#include "core/error.h"
#include "core/spec.h"
#include "policy/policy.h"
#include "policy/test_heads.h"

namespace kvmerger::policy {
namespace {

constexpr uint32_t kDim = 8;

std::vector<OptionHelp> options_of(Policy& policy) {
  return describe_options([&](OptionVisitor& visitor) { policy.options(visitor); });
}

// What an option may be set to, from its range as it is listed: "a .. b", "auto or a .. b" or "x | y | z".
std::vector<std::string> extremes(const std::string& range) {
  std::vector<std::string> values;
  std::istringstream words(range);
  for (std::string word; words >> word;) {
    if (word != ".." && word != "|" && word != "or") values.push_back(word);
  }
  return values;
}

// The defaults, then every option at every end of its range, each alone.
std::vector<std::string> specs_of(const Entry& entry) {
  std::vector<std::string> specs{entry.name};
  for (const OptionHelp& option : options_of(*entry.make())) {
    for (const std::string& value : extremes(option.range))
      specs.push_back(cat(entry.name, ":", option.key, "=", value));
  }
  return specs;
}

std::vector<uint32_t> budgets_for(uint32_t n) {
  std::vector<uint32_t> budgets{1, 2, 5, n / 10, n / 5, n * 35 / 100, n / 2, n - 1, n, n + 5};
  std::erase(budgets, 0U);
  std::ranges::sort(budgets);
  budgets.erase(std::ranges::unique(budgets).begin(), budgets.end());
  return budgets;
}

// First rows that the method promises to keep, as its options stand.
uint32_t sinks_of(Policy& policy) {
  for (const OptionHelp& option : options_of(policy)) {
    if (option.key == "sinks") return static_cast<uint32_t>(std::stoul(option.value));
  }
  return 0;
}

bool kept_alone(const kv::HeadPlan& plan, uint32_t row, uint32_t old_row) {
  const auto key = plan.key[row];
  return plan.pivot[row] == old_row && key.size() == 1 && key[0].row == old_row && key[0].weight == 1.0F;
}

bool finite(const std::vector<float>& values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

// What a plan of any head must fulfil; limit: rows allowed, none: the method chose. Returns the first breach, or "".
std::string breach(Policy& policy, const TestHead& head, const kv::HeadPlan& plan, std::optional<uint32_t> limit) {
  const kv::HeadView view = head.view(policy.needs());
  if (limit && plan.rows() > *limit) return cat(plan.rows(), " rows");
  if (limit && head.rows <= *limit && !kv::is_identity(plan, view)) return "not the identity, though it fits";
  if (!kept_alone(plan, plan.rows() - 1, head.rows - 1)) return "the newest row is not kept as it is";
  const uint32_t sinks = std::min(sinks_of(policy), std::min(limit.value_or(head.rows), head.rows) - 1);
  for (uint32_t sink = 0; sink < sinks; ++sink) {
    if (!kept_alone(plan, sink, sink)) return cat("sink ", sink, " is not kept");
  }
  if (!finite(apply(plan.key, head.key, head.dim)) || !finite(apply(plan.value, head.value, head.dim))) {
    return "new rows are not finite";
  }
  return "";
}

// Plans the heads and checks everything the contract says about the result.
void check_contract(const std::string& spec, const std::vector<TestHead>& heads, const std::vector<uint32_t>& limits) {
  const auto policy = make(spec), again = make(spec);
  const kv::LayerView view = layer_view(heads, policy->needs());
  const kv::LayerPlan plan = policy->plan(view, limits), second = again->plan(view, limits);
  REQUIRE_NOTHROW(kv::validate(plan, view));
  for (size_t index = 0; index < heads.size(); ++index) {
    if (heads[index].rows == 0) continue;
    const auto limit = limits.empty() ? std::nullopt : std::optional(limits[index]);
    CHECK(breach(*policy, heads[index], plan[index], limit) == "");
    CHECK(difference(plan[index], second[index]) == "");
  }
}

TEST_CASE("every policy, option, size and budget: a valid plan within its rows") {
  for (const Entry& entry : all()) {
    const bool compresses = entry.make()->compresses();
    for (const std::string& spec : specs_of(entry)) {
      for (uint32_t n : {1U, 2U, 3U, 5U, 16U, 17U, 31U, 64U, 100U, 333U, 600U}) {
        for (uint64_t seed : {1U, 2U}) {
          Rng rng(seed * 1000 + n);
          const std::vector<TestHead> heads{seed == 1 ? random_head(n, kDim, rng) : merged_head(n, kDim, rng)};
          for (uint32_t limit : budgets_for(n)) {
            CAPTURE(spec);
            CAPTURE(n);
            CAPTURE(limit);
            if (compresses || limit >= n) check_contract(spec, heads, {limit});
          }
        }
      }
    }
  }
}

TEST_CASE("a policy that sizes itself plans without rows and leaves its whole layers alone") {
  for (const Entry& entry : all()) {
    for (const std::string& spec : specs_of(entry)) {
      const auto policy = make(spec);
      if (!policy->sizes_itself()) continue;
      CAPTURE(spec);
      for (uint32_t n : {1U, 2U, 5U, 33U, 300U}) {
        Rng rng(n);
        const std::vector<TestHead> heads{random_head(n, kDim, rng), merged_head(n, kDim, rng)};
        check_contract(spec, heads, {});
        kv::LayerView view = layer_view(heads, policy->needs());
        for (view.index = 0; view.index < view.count; ++view.index) {
          if (!policy->keeps_whole(view.index, view.count)) continue;
          CHECK(kv::is_identity(policy->plan(view, {})[0], view.heads[0]));
        }
      }
    }
  }
}

std::vector<TestHead> extreme_heads(uint32_t n) {
  Rng rng(n);
  std::vector<TestHead> heads(8, random_head(n, kDim, rng));
  for (uint32_t row = 1; row < n; ++row) std::copy_n(heads[0].key_of(0), kDim, heads[0].key_of(row));  // all equal
  std::ranges::fill(heads[1].key, 0.0F);
  for (float& key : heads[2].key) key *= 1e4F;
  for (float& key : heads[3].key) key *= 1e-30F;
  for (uint32_t at = 0; at < kDim; ++at) heads[4].key_of(n / 2)[at] = 1e6F;  // one outlier
  for (auto* attention : {&heads[5].attn_sum, &heads[5].attn_win, &heads[5].attn_max}) {
    std::ranges::fill(*attention, 0.0F);
  }
  std::ranges::fill(heads[6].bias, 80.0F);
  std::ranges::fill(heads[7].bias, -80.0F);
  std::ranges::fill(heads[7].mass, 1e5F);
  return heads;
}

TEST_CASE("every policy on extreme keys, attention and biases") {
  for (const Entry& entry : all()) {
    if (!entry.make()->compresses()) continue;
    for (const std::string& spec : specs_of(entry)) {
      CAPTURE(spec);
      for (uint32_t n : {5U, 64U, 200U}) {
        const std::vector<TestHead> heads = extreme_heads(n);
        for (uint32_t limit : budgets_for(n)) check_contract(spec, heads, std::vector<uint32_t>(heads.size(), limit));
        if (make(spec)->sizes_itself()) check_contract(spec, heads, {});
      }
    }
  }
}

TEST_CASE("ragged heads, permuted heads give permuted plans") {
  Rng rng(7);
  std::vector<TestHead> heads;
  std::vector<uint32_t> limits;
  for (uint32_t n : {5U, 100U, 17U, 1U, 0U, 64U, 100U}) {
    heads.push_back(random_head(n, kDim, rng));
    limits.push_back(n / 3 + 1);
  }
  std::vector<TestHead> turned = heads;
  std::vector<uint32_t> turned_limits = limits;
  std::ranges::rotate(turned, turned.begin() + 3);
  std::ranges::rotate(turned_limits, turned_limits.begin() + 3);
  for (const Entry& entry : all()) {
    if (!entry.make()->compresses()) continue;
    for (const std::string& spec : specs_of(entry)) {
      CAPTURE(spec);
      check_contract(spec, heads, limits);
      const auto policy = make(spec);
      kv::LayerPlan plan = policy->plan(layer_view(heads, policy->needs()), limits);
      const kv::LayerPlan other = policy->plan(layer_view(turned, policy->needs()), turned_limits);
      std::ranges::rotate(plan, plan.begin() + 3);
      for (size_t index = 0; index < plan.size(); ++index) CHECK(difference(plan[index], other[index]) == "");
    }
  }
}

TEST_CASE("a policy that does not compress refuses fewer rows than there are, and says so") {
  Rng rng(1);
  const std::vector<TestHead> heads{random_head(20, kDim, rng)};
  for (const Entry& entry : all()) {
    const auto policy = entry.make();
    if (policy->compresses()) continue;
    const std::vector<uint32_t> limit{19};
    CHECK_THROWS_WITH_AS(policy->plan(layer_view(heads, {}), limit), doctest::Contains("keeps every row"), Error);
  }
}

TEST_CASE("statistics that the cache does not hold are named") {
  Rng rng(1);
  const std::vector<TestHead> heads{random_head(20, kDim, rng)};
  const std::vector<uint32_t> limit{10}, all_rows{20};
  for (const Entry& entry : all()) {
    const auto policy = entry.make();
    const Needs needs = policy->needs();
    if (!needs.any_attention() && needs.queries == 0) continue;
    CAPTURE(entry.name);
    CHECK_THROWS_WITH_AS(policy->plan(layer_view(heads, {}), limit), doctest::Contains("made without"), Error);
    CHECK_NOTHROW(policy->plan(layer_view(heads, {}), all_rows));  // nothing to decide
  }
}

// Breaks the contract in a chosen way.
class Faulty final : public Policy {
 public:
  explicit Faulty(std::vector<uint32_t> kept) : kept_(std::move(kept)) {}

 protected:
  kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t) const override { return kv::keep_rows(head, kept_); }

 private:
  std::vector<uint32_t> kept_;
};

TEST_CASE("plans that break the contract are refused") {
  Rng rng(1);
  const std::vector<TestHead> heads{random_head(20, kDim, rng)};
  const kv::LayerView view = layer_view(heads, {});
  const std::vector<uint32_t> limit{3};
  CHECK_NOTHROW(Faulty({0, 5, 19}).plan(view, limit));
  CHECK_THROWS_WITH_AS(Faulty({0, 5, 6, 19}).plan(view, limit), doctest::Contains("kept 4 rows where 3"), Error);
  CHECK_THROWS_WITH_AS(Faulty({0, 5}).plan(view, limit), doctest::Contains("newest"), Error);
  CHECK_THROWS_AS(Faulty({5, 0, 19}).plan(view, limit), Error);
  CHECK_THROWS_AS(Faulty({5, 5, 19}).plan(view, limit), Error);
}

TEST_CASE("the table: names are unique and lead to their row, unknown ones list the known") {
  for (const Entry& entry : all()) {
    CHECK(std::ranges::count_if(all(), [&](const Entry& other) { return std::string(other.name) == entry.name; }) == 1);
    CHECK(make(entry.name) != nullptr);
    CHECK(std::string(entry.line) != "");
    CHECK(std::string(entry.source) != "");
    CHECK_THROWS_WITH_AS(make("nonesuch"), doctest::Contains(entry.name), UsageError);
    CHECK_THROWS_AS(make(std::string(entry.name) + ":nonesuch=1"), UsageError);
  }
}

}  // namespace
}  // namespace kvmerger::policy
