// D2O against all pairs in double, and against numpy.
#include <doctest/doctest.h>

#include "policy/test_rivals.h"

namespace kvmerger::policy {
namespace {

double mean_cosine(const std::map<uint32_t, std::vector<LiteralMatch>>& matches) {
  double sum = 0, count = 0;
  for (const auto& [row, joining] : matches) {
    for (const LiteralMatch& match : joining) sum += match.cosine, ++count;
  }
  return count > 0 ? sum / count : 0.0;
}

// kind cosine: the mean of the kept row and of the joining rows, each scaled by its cosine; exp: softmax of the
// cosines.
std::vector<ExpectedRow> literal_plan(const TestHead& head, uint32_t budget, std::optional<double> threshold,
                                      const std::string& kind) {
  const std::vector<uint32_t> kept = literal_heavy(head, budget, 4);
  auto matches = literal_matches(head, kept, std::min(4U, budget - 1));
  const double least = threshold.value_or(mean_cosine(matches));
  std::vector<ExpectedRow> plan;
  for (const uint32_t row : kept) {
    std::vector<LiteralMatch> joining{{row, 1.0}};
    for (const LiteralMatch& match : matches[row]) {
      if (match.cosine >= least) joining.push_back(match);
    }
    double exponentials = 0;
    for (const LiteralMatch& match : joining) exponentials += std::exp(match.cosine);
    std::map<uint32_t, double> sum;
    for (const LiteralMatch& match : joining) {
      sum[match.row] =
          kind == "exp" ? std::exp(match.cosine) / exponentials : match.cosine / static_cast<double>(joining.size());
    }
    plan.push_back({row, sum, sum, double{head.bias[row]}});
  }
  return plan;
}

TEST_CASE("d2o: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    for (const std::string kind : {"cosine", "exp"}) {
      const auto found = [&](const char* threshold) {
        return plan_of(cat("d2o:weights=", kind, ",threshold=", threshold), head, {budget});
      };
      CHECK(difference(found("auto"), literal_plan(head, budget, std::nullopt, kind)) == "");
      CHECK(difference(found("0.8"), literal_plan(head, budget, 0.8, kind)) == "");
      CHECK(difference(found("-1"), literal_plan(head, budget, -1.1, kind)) == "");
    }
  });
}

TEST_CASE("d2o: rows as numpy makes them by scattering") {
  const TestHead head = rival_head(0);
  const auto found = [&](const std::string& kind, const std::vector<float>& key, const std::vector<float>& value) {
    return difference(plan_of("d2o:sinks=3,recent=0.625,weights=" + kind, head, {rivals::kKept / 2}), head, key, value);
  };
  CHECK(found("cosine", rivals::kD2oCosineKey, rivals::kD2oCosineValue) == "");
  CHECK(found("exp", rivals::kD2oExpKey, rivals::kD2oExpValue) == "");
}

TEST_CASE("d2o: a row alone is at the threshold and merges, equal rows merge") {
  Rng rng(6);
  TestHead head = random_head(30, 4, rng);
  const auto merged = [&](const kv::HeadPlan& plan) { return plan.key.source.size() - plan.rows(); };
  CHECK(merged(plan_of("d2o", head, {29})) == 1);
  CHECK(merged(plan_of("d2o:threshold=-1", head, {12})) == 18);
  for (uint32_t row = 1; row < 30; ++row) std::copy_n(head.key_of(0), 4, head.key_of(row));
  CHECK(merged(plan_of("d2o", head, {12})) == 18);
}

TEST_CASE("d2o: with merge=off it is H2O with sinks") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    CHECK(difference(plan_of("d2o:merge=off", head, {budget}), plan_of("h2o:sinks=4", head, {budget})) == "");
    CHECK(plan_of("d2o", head, {budget}).pivot == kept_by("h2o:sinks=4", head, budget));
  });
}

TEST_CASE("d2o: scores for budgets are the attention sums, layers are left whole on request only") {
  Rng rng(7);
  const TestHead head = random_head(40, 4, rng);
  const auto policy = make("d2o"), h2o = make("h2o:sinks=4"), paper = make("d2o:skip=paper");
  CHECK(policy->row_scores(head.view(policy->needs()), 12) == h2o->row_scores(head.view(h2o->needs()), 12));
  for (const uint32_t layer : {0U, 1U, 2U, 10U, 11U}) {
    CHECK(!policy->keeps_whole(layer, 12));
    CHECK(paper->keeps_whole(layer, 12) == (layer != 2 && layer != 10));
  }
}

}  // namespace
}  // namespace kvmerger::policy
