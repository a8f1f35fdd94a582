// Budgets that are an error to stay within (--kv-budget auto:ERR): which share of the rows they come to.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "engine/keeper.h"
#include "engine/session.h"
#include "measures.h"
#include "policy/policy.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kLayers = 2, kHeads = 2;  // KV heads of a layer

std::shared_ptr<const model::Model> toy() {
  test::ToyParams params;
  params.n_layer = kLayers;
  params.n_head_kv = kHeads;
  static const test::ToyModel file(params);
  static const auto model = std::make_shared<const model::Model>(file.path());
  return model;
}

CompactionSpec spec(const std::string& policy, const std::string& budget, const std::string& fit = "none") {
  return {policy, "uniform", fit, budget};
}

// A session that has read `count` tokens and recorded what the compactor needs.
std::unique_ptr<Session> session(const Compactor& compactor, uint32_t count, uint64_t seed = 1) {
  SessionOptions options;
  options.threads = 1;
  options.batch = 128;
  options.needs = compactor.needs();
  auto made = std::make_unique<Session>(toy(), options);
  made->extend(test::random_tokens(count, 128, seed), true);
  return made;
}

double root_mean_square(const std::vector<double>& errors) {
  double squares = 0.0;
  for (const double error : errors) squares += error * error;
  return std::sqrt(squares / static_cast<double>(errors.size()));
}

// [101] what Session::predict says of a budget of so many per cent; all rows have no error.
std::vector<double> errors_by_percent(Session& session, const std::string& policy, const std::string& fit) {
  std::vector<double> errors(101, 1e9);
  for (int percent = 1; percent < 100; ++percent) {
    const Compactor one(spec(policy, cat(percent, "%"), fit));
    errors[static_cast<size_t>(percent)] = root_mean_square(session.predict(one));
  }
  errors[100] = 0.0;
  return errors;
}

size_t percent_of(const CompactionReport& report) {
  CHECK(report.chosen.ends_with('%'));
  return static_cast<size_t>(std::stoul(report.chosen));
}

}  // namespace

TEST_CASE("the share that is found stays within the error, one per cent less does not") {
  for (const auto& [policy, fit] : {std::pair("expected_attention", "none"), std::pair("expected_attention", "ls")}) {
    CAPTURE(policy);
    CAPTURE(fit);
    const Compactor any(spec(policy, "auto", fit));
    const std::unique_ptr<Session> full = session(any, 300);
    const std::vector<double> errors = errors_by_percent(*full, policy, fit);
    for (const char* most : {"0.5", "0.3", "0.1", "0.03", "0.000001"}) {
      CAPTURE(most);
      const Compactor chosen(spec(policy, std::string("auto:") + most, fit));
      const CompactionReport report = full->fork()->compact(chosen);
      const size_t percent = percent_of(report);
      CHECK(report.error <= std::stod(most));
      CHECK(errors[percent] <= std::stod(most));
      CHECK(errors[percent - 1] > std::stod(most));
      CHECK(report.error == doctest::Approx(errors[percent]));
      CHECK(report.rows_after <= 300 * kLayers * kHeads * percent / 100);
    }
  }
}

TEST_CASE("it is compacted as with the share written out, and the looking changes nothing") {
  const Compactor automatic(spec("expected_attention", "auto:0.3", "ls"));
  const std::unique_ptr<Session> full = session(automatic, 300), found = full->fork(), given = full->fork();
  const std::vector<double> predicted = full->predict(automatic);
  CHECK(full->rows() == 300 * kLayers * kHeads);
  const CompactionReport report = found->compact(automatic);
  CHECK(report.rows_after < report.rows_before);
  CHECK(report.errors == predicted);
  CHECK(report.spec.budget == "auto:0.3");
  const CompactionReport same = given->compact(Compactor(spec("expected_attention", report.chosen, "ls")));
  CHECK(same.chosen.empty());
  CHECK(same.rows == report.rows);
  CHECK(same.errors == report.errors);
  const std::vector<Token> more = test::random_tokens(10, 128, 2);
  found->extend(more);
  given->extend(more);
  CHECK(std::ranges::equal(found->logits(), given->logits()));
}

TEST_CASE("a larger error never takes more rows when the error falls with every row") {
  const Compactor any(spec("expected_attention", "auto"));
  const std::unique_ptr<Session> full = session(any, 200);
  size_t last = 100;
  for (const char* most : {"0.000001", "0.05", "0.1", "0.2", "0.4", "0.8", "0.999999"}) {
    const Compactor chosen(spec("expected_attention", std::string("auto:") + most));
    const size_t percent = percent_of(full->fork()->compact(chosen));
    CAPTURE(most);
    CHECK(percent <= last);
    last = percent;
  }
  CHECK(last < 50);
}

TEST_CASE("auto alone is an error of a tenth") {
  const Compactor bare(spec("h2o", "auto")), tenth(spec("h2o", "auto:0.1"));
  const std::unique_ptr<Session> full = session(bare, 200);
  const CompactionReport left = full->fork()->compact(bare), right = full->fork()->compact(tenth);
  CHECK(left.chosen == right.chosen);
  CHECK(left.rows == right.rows);
}

TEST_CASE("every policy can have an error budget: what it does not ask for is recorded for it") {
  for (const policy::Entry& entry : policy::all()) {
    if (!entry.make()->compresses()) continue;
    CAPTURE(entry.name);
    const Compactor chosen(spec(entry.name, "auto:0.4"));
    CHECK(chosen.by_error());
    CHECK(chosen.needs().queries >= 96);
    CHECK(Compactor(spec(entry.name, "40%")).needs().queries == entry.make()->needs().queries);
    const std::unique_ptr<Session> one = session(chosen, 200);
    CHECK(one->rows_over(chosen) == 0);
    const CompactionReport report = one->compact(chosen);
    CHECK(report.errors.size() == kLayers * kHeads);
    CHECK(report.error <= 0.4);
    CHECK(percent_of(report) <= 100);
    CHECK(report.rows_after == one->rows());
    one->extend(test::random_tokens(3, 128, 3));
    for (const float logit : one->logits()) REQUIRE(std::isfinite(logit));
  }
}

TEST_CASE("before it is known what an error comes to, everything is allowed") {
  const Compactor chosen(spec("h2o", "auto"));
  CHECK(chosen.allowed({.layers = kLayers, .heads = kHeads, .head_dim = 16, .stats = {}}, 1000) == UINT64_MAX);
  CHECK_FALSE(Compactor(spec("h2o", "50%")).by_error());
  CHECK_FALSE(Compactor(spec("none", "")).by_error());
}

TEST_CASE("a text too short to predict anything on stays whole, and the report says so") {
  const Compactor chosen(spec("streaming_llm", "auto:0.9"));
  const std::unique_ptr<Session> one = session(chosen, 1);
  const CompactionReport report = one->compact(chosen);
  CHECK(report.chosen == "100%");
  CHECK(report.rows_after == kLayers * kHeads);
  CHECK(report.note.find("too short") != std::string::npos);
}

TEST_CASE("an error budget cannot be kept to while reading or generating") {
  const Compactor chosen(spec("h2o", "auto:0.2"));
  CHECK_NOTHROW(Keeper(chosen, parse_moments("prefill")));
  for (const char* when : {"stream", "decode", "prefill+decode", "stream+decode"}) {
    CAPTURE(when);
    CHECK_THROWS_WITH_AS(Keeper(chosen, parse_moments(when)), doctest::Contains("auto:0.2"), UsageError);
    CHECK_THROWS_WITH_AS(Keeper(chosen, parse_moments(when)), doctest::Contains("whole text"), UsageError);
  }
}

}  // namespace kvmerger::engine
