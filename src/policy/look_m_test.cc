// LOOK-M and the search for the nearest row against all pairs in double, and against numpy.
#include <doctest/doctest.h>

#include "policy/nearest_merge.h"
#include "policy/test_rivals.h"

namespace kvmerger::policy {
namespace {

// Adds one dropped row after another to a running sum, as scatter operations do, and divides at the end.
std::vector<ExpectedRow> literal_plan(const TestHead& head, uint32_t budget, uint32_t sinks, const std::string& kind) {
  const std::vector<uint32_t> kept = literal_heavy(head, budget, sinks);
  auto matches = literal_matches(head, kept, std::min(sinks, budget - 1));
  std::vector<ExpectedRow> plan;
  for (const uint32_t row : kept) {
    std::map<uint32_t, double> sum{{row, 1.0}};
    double total = 1.0;
    for (const LiteralMatch& match : matches[row]) {
      const double weight = kind == "similarity" ? (match.cosine + 1) / 2 : 1.0;
      sum[match.row] += kind == "pivot" ? 0.5 : weight;
      sum[row] += kind == "pivot" ? 0.5 : 0.0;
      total += weight;
    }
    for (auto& [source, weight] : sum) weight /= total;
    plan.push_back({row, sum, sum, double{head.bias[row]}});
  }
  return plan;
}

TEST_CASE("look_m: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    for (const std::string kind : {"similarity", "pivot", "average"}) {
      CHECK(difference(plan_of("look_m:weights=" + kind, head, {budget}), literal_plan(head, budget, 4, kind)) == "");
      const std::string spec = cat("look_m:sinks=0,weights=", kind);
      CHECK(difference(plan_of(spec, head, {budget}), literal_plan(head, budget, 0, kind)) == "");
    }
  });
}

TEST_CASE("look_m: rows as numpy makes them by scattering") {
  const TestHead head = rival_head(0);
  const auto found = [&](const std::string& kind, const std::vector<float>& key, const std::vector<float>& value) {
    return difference(plan_of("look_m:sinks=3,recent=0.625,weights=" + kind, head, {rivals::kKept / 2}), head, key,
                      value);
  };
  CHECK(found("similarity", rivals::kSimilarityKey, rivals::kSimilarityValue) == "");
  CHECK(found("pivot", rivals::kPivotKey, rivals::kPivotValue) == "");
  CHECK(found("average", rivals::kAverageKey, rivals::kAverageValue) == "");
}

TEST_CASE("look_m: weights add to 1, every dropped row is in one kept row, sinks and newest take none") {
  Rng rng(4);
  const TestHead head = random_head(200, 8, rng);
  for (const char* kind : {"similarity", "pivot", "average"}) {
    const kv::HeadPlan plan = plan_of(cat("look_m:weights=", kind), head, {60});
    std::vector<uint32_t> uses(200);
    for (uint32_t row = 0; row < plan.rows(); ++row) {
      double total = 0;
      for (const kv::Source& source : plan.key[row]) total += double{source.weight}, ++uses[source.row];
      CHECK(total == doctest::Approx(1.0));
      if (row < 4 || row == 59) CHECK(plan.key[row].size() == 1);
    }
    CHECK(uses == std::vector<uint32_t>(200, 1));
  }
}

TEST_CASE("look_m: with merge=off it is H2O with sinks") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    CHECK(difference(plan_of("look_m:merge=off", head, {budget}), plan_of("h2o:sinks=4", head, {budget})) == "");
    CHECK(plan_of("look_m", head, {budget}).pivot == kept_by("h2o:sinks=4", head, budget));
  });
}

TEST_CASE("nearest: over many blocks, and long vectors, as all pairs in double") {
  Rng rng(5);
  const TestHead head = random_head(700, 64, rng);
  std::vector<uint32_t> dropped, receivers;
  for (uint32_t row = 0; row < 700; ++row) (row % 3 == 1 ? receivers : dropped).push_back(row);
  const std::vector<Match> matches = nearest({head.key.data(), 700, 64}, dropped, receivers);
  REQUIRE(matches.size() == dropped.size());
  for (size_t at = 0; at < dropped.size(); ++at) {
    double largest = -2;
    for (const uint32_t receiver : receivers) {
      largest = std::max(largest, literal_cosine(head, dropped[at], receiver));
    }
    CHECK(matches[at].row == dropped[at]);
    CHECK(double{matches[at].cosine} == doctest::Approx(largest).epsilon(1e-5));
    CHECK(literal_cosine(head, dropped[at], matches[at].into) == doctest::Approx(largest).epsilon(1e-5));
  }
}

TEST_CASE("nearest: no receivers, no dropped rows, keys of 0, opposite keys") {
  const std::vector<float> keys{1, 0, 0, 0, -2, 0, 3, 0};
  const kv::Rows key{keys.data(), 4, 2};
  const std::vector<uint32_t> none, all{0, 1, 2}, first{0}, rest{1, 2, 3};
  CHECK(nearest(key, all, none).empty());
  CHECK(nearest(key, none, all).empty());
  const std::vector<Match> matches = nearest(key, rest, first);
  CHECK(matches[0].cosine == 0.0F);
  CHECK(matches[1].cosine == -1.0F);
  CHECK(matches[2].cosine == 1.0F);
  CHECK(nearest(key, first, rest)[0].into == 3);
  const std::vector<uint32_t> zero{1}, others{0, 2, 3};
  CHECK(nearest(key, zero, others)[0].into == 0);  // all are equally near
}

}  // namespace
}  // namespace kvmerger::policy
