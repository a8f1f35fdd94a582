// The fits against the objectives they minimise, written out in double, and the laws of a fit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/error.h"
#include "fit/fit.h"
#include "fit/response.h"
#include "fit/test_head.h"

namespace kvmerger::fit {
namespace {

kv::HeadPlan fitted(const std::string& spec, const kv::HeadView& head, const kv::HeadPlan& plan) {
  return make(spec)->fit({0, 1, {head}}, {plan}).plan[0];
}

// The mass objective of weights w for a plan whose weights were `start`: |A w - 1|^2 + r |w - start|^2.
struct MassProblem {
  std::vector<Doubles> attention;  // [queries][rows]
  Doubles start;
  double ridge = 0.0;

  MassProblem(const kv::HeadView& head, const kv::HeadPlan& plan, double lambda) {
    const LiteralRows rows = planned_rows(head, plan);
    double energy = 0.0;
    for (const uint32_t query : queries_of(head, false)) {
      const LiteralAnswer full = literal_answer(head.query[query], all_rows(head));
      attention.push_back(literal_logits(head.query[query], rows));
      for (double& logit : attention.back()) logit = std::exp(logit - full.largest) / full.sum;
      for (const double share : attention.back()) energy += share * share;
    }
    for (const double bias : rows.bias) start.push_back(std::exp(bias));
    ridge = lambda * energy / static_cast<double>(start.size());
  }

  double mass(size_t query, const Doubles& weight) const {
    double mass = 0.0;
    for (size_t row = 0; row < weight.size(); ++row) mass += attention[query][row] * weight[row];
    return mass;
  }
  double objective(const Doubles& weight) const {
    double sum = 0.0;
    for (size_t query = 0; query < attention.size(); ++query) sum += std::pow(mass(query, weight) - 1, 2);
    for (size_t row = 0; row < weight.size(); ++row) sum += ridge * std::pow(weight[row] - start[row], 2);
    return sum;
  }
  // Half the derivative by the weight of each row.
  Doubles gradient(const Doubles& weight) const {
    Doubles gradient(weight.size());
    for (size_t row = 0; row < weight.size(); ++row) gradient[row] = ridge * (weight[row] - start[row]);
    for (size_t query = 0; query < attention.size(); ++query) {
      const double wrong = mass(query, weight) - 1;
      for (size_t row = 0; row < weight.size(); ++row) gradient[row] += attention[query][row] * wrong;
    }
    return gradient;
  }
};

Doubles weights(const kv::HeadPlan& plan) {
  Doubles weights;
  for (const float bias : plan.bias) weights.push_back(std::exp(double{bias}));
  return weights;
}

// Calls check(head, plan) with rows kept and rows merged of many heads.
template <typename Check>
void with_plans(const Check& check) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Rng rng(seed);
    const TestHead source = random_head(2 + rng.below(200), 8, 8 + rng.below(120), rng);
    const kv::HeadView head = source.view();
    check(head, eviction(head, 2 + rng.below(5)));
    check(head, merging(head, 2 + rng.below(3)));
  }
}

bool same_but_for_answers(const kv::HeadPlan& left, const kv::HeadPlan& right) {
  const auto same = [](const kv::Sums& one, const kv::Sums& other) {
    const auto equal = [](const kv::Source& a, const kv::Source& b) { return a.row == b.row && a.weight == b.weight; };
    return one.begin == other.begin && std::ranges::equal(one.source, other.source, equal);
  };
  return left.pivot == right.pivot && same(left.key, right.key) && same(left.value, right.value);
}

TEST_CASE("law 26: the mass fit never raises its objective, and moves biases no further than allowed") {
  int changed = 0;
  for (const char* options : {"lambda=0.1", "lambda=0.001,clip=0.2", "lambda=0.01,clip=1,rounds=3", "lambda=10",
                              "lambda=0.0001,clip=0.02,rounds=1000"}) {
    CAPTURE(std::string(options));
    const double lambda = std::stod(std::string(options).substr(7));
    const char* clip = std::strstr(options, "clip=");
    const double most = clip ? std::stod(clip + 5) : 3.0;
    with_plans([&](const kv::HeadView& head, const kv::HeadPlan& plan) {
      const kv::HeadPlan better = fitted(cat("mass:", options), head, plan);
      const MassProblem problem(head, plan, lambda);
      CHECK(problem.objective(weights(better)) <= problem.objective(problem.start) * (1 + 1e-4) + 1e-9);
      for (uint32_t row = 0; row < plan.rows(); ++row) CHECK(std::abs(better.bias[row] - plan.bias[row]) < most + 1e-3);
      CHECK(same_but_for_answers(better, plan));
      CHECK(better.dense.empty());
      changed += better.bias != plan.bias;
    });
  }
  CHECK(changed > 100);  // of 400
}

TEST_CASE("the mass fit, given time, is where its objective has no slope but towards weights below its reach") {
  int changed = 0;
  with_plans([&](const kv::HeadView& head, const kv::HeadPlan& plan) {
    const kv::HeadPlan better = fitted("mass:lambda=1,rounds=1000,clip=20", head, plan);
    if (better.bias == plan.bias) return;
    ++changed;
    const MassProblem problem(head, plan, 1);
    const Doubles weight = weights(better), slope = problem.gradient(weight);
    const Doubles at_start = problem.gradient(problem.start);
    double most = 0.0;
    for (const double one : at_start) most = std::max(most, std::abs(one));
    for (size_t row = 0; row < weight.size(); ++row)
      CHECK(std::abs(slope[row]) * std::min(1.0, weight[row]) < 0.01 * most);
  });
  CHECK(changed > 20);
}

// The slope of |P V' - O|^2 + r |V' - V|^2 by V', as a share of that at V.
double slope_of_values(const kv::HeadView& head, const kv::HeadPlan& plan, const kv::HeadPlan& better, double lambda) {
  const LiteralRows before = planned_rows(head, plan), after = planned_rows(head, better), full = all_rows(head);
  const std::vector<uint32_t> queries = queries_of(head, false);
  const size_t rows = before.key.size(), dim = head.key.dim;
  std::vector<Doubles> share, wrong, wrong_before;  // [queries][rows], [queries][head_dim]
  double energy = 0.0;
  for (const uint32_t query : queries) {
    Doubles own = literal_logits(head.query[query], after), answer = literal_answer(head.query[query], full).output;
    double sum = 0.0;
    const double largest = *std::ranges::max_element(own);
    for (size_t row = 0; row < rows; ++row) sum += own[row] = std::exp(own[row] - largest + after.bias[row]);
    for (double& one : own) {
      one /= sum;
      energy += one * one;
    }
    Doubles now(dim), then(dim);
    for (size_t at = 0; at < dim; ++at) {
      now[at] = then[at] = -answer[at];
      for (size_t row = 0; row < rows; ++row) {
        now[at] += own[row] * after.value[row][at];
        then[at] += own[row] * before.value[row][at];
      }
    }
    share.push_back(own), wrong.push_back(now), wrong_before.push_back(then);
  }
  const double ridge = lambda * energy / static_cast<double>(rows);
  double now = 0.0, then = 0.0;
  for (size_t row = 0; row < rows; ++row) {
    for (size_t at = 0; at < dim; ++at) {
      double slope = ridge * (after.value[row][at] - before.value[row][at]), slope_before = 0.0;
      for (size_t query = 0; query < queries.size(); ++query) {
        slope += share[query][row] * wrong[query][at];
        slope_before += share[query][row] * wrong_before[query][at];
      }
      now += slope * slope;
      then += slope_before * slope_before;
    }
  }
  return std::sqrt(now / then);
}

TEST_CASE("least squares: the values are where their objective has no slope, given the biases") {
  int changed = 0;
  for (const double lambda : {0.01, 0.1, 10.0}) {
    with_plans([&](const kv::HeadView& head, const kv::HeadPlan& plan) {
      const kv::HeadPlan better = fitted(cat("ls:lambda=", lambda), head, plan);
      CHECK(same_but_for_answers(better, plan));
      if (better.dense.empty()) return;
      ++changed;
      REQUIRE(better.dense.size() == plan.rows());
      for (uint32_t row = 0; row < plan.rows(); ++row) CHECK(better.dense[row] == static_cast<int32_t>(row));
      CHECK(slope_of_values(head, plan, better, lambda) < 1e-3);
    });
  }
  CHECK(changed > 120);  // of 240
}

TEST_CASE("no fit raises the error on the queries held out, and least squares lowers it much") {
  double before = 0.0, after = 0.0;
  for (const char* spec : {"mass", "ls", "mass:lambda=0.001", "ls:lambda=0.001", "ls:lambda=100", "ls:clip=0"}) {
    with_plans([&](const kv::HeadView& head, const kv::HeadPlan& plan) {
      const double was = literal_error(head, plan, true), is = literal_error(head, fitted(spec, head, plan), true);
      CHECK(is <= was * (1 + 1e-4) + 1e-9);
      if (std::string(spec) == "ls") before += was, after += is;
    });
  }
  CHECK(after < 0.6 * before);
}

TEST_CASE("law 26: where all rows are kept nothing changes, and a very strong pull changes next to nothing") {
  Rng rng(3);
  const TestHead source = random_head(80, 8, 64, rng);
  const kv::HeadView head = source.view();
  for (const char* name : {"mass", "ls"}) {
    const kv::HeadPlan all = fitted(name, head, kv::keep_all(head));
    CHECK(is_identity(all, head));
    CHECK(all.dense.empty());
    const kv::HeadPlan plan = eviction(head, 3), pulled = fitted(cat(name, ":lambda=1000000"), head, plan);
    for (uint32_t row = 0; row < plan.rows(); ++row) CHECK(std::abs(pulled.bias[row] - plan.bias[row]) < 1e-3);
    const LiteralRows was = planned_rows(head, plan), is = planned_rows(head, pulled);
    for (uint32_t row = 0; row < plan.rows(); ++row) {
      for (uint32_t at = 0; at < 8; ++at) CHECK(std::abs(is.value[row][at] - was.value[row][at]) < 1e-3);
    }
  }
}

// Rows 0 .. 29, of which the first ten come twice, one behind the other.
TestHead with_twins(Rng& rng) {
  TestHead head = random_head(40, 8, 400, rng);
  head.bias.assign(40, 0.0F);
  for (uint32_t row = 0; row < 20; row += 2) {
    for (auto* values : {&head.key, &head.value})
      std::copy_n(values->begin() + row * 8, 8, values->begin() + row * 8 + 8);
  }
  return head;
}

TEST_CASE("of equal rows in pairs one is dropped: the bias of the other becomes log 2, and the output is that of all") {
  Rng rng(4);
  const TestHead source = with_twins(rng);
  const kv::HeadView head = source.view();
  kv::HeadPlan plan;
  for (uint32_t row = 0; row < 40; ++row) {
    if (row >= 20 || row % 2 == 0) plan.keep(head, row);
  }
  for (const char* name : {"mass", "ls"}) {
    CAPTURE(name);
    const kv::HeadPlan better = fitted(cat(name, ":lambda=0.00001,rounds=1000"), head, plan);
    for (uint32_t row = 0; row < 30; ++row) {
      const double expected = row < 10 ? std::log(2.0) : 0.0;
      CHECK(std::abs(double{better.bias[row]} - expected) < 0.05);
    }
    CHECK(literal_error(head, better, true) < 0.01 * literal_error(head, plan, true));
  }
}

// Returns how many fits said their error.
int check_sound(const kv::HeadView& head, const kv::HeadPlan& plan) {
  int measured = 0;
  for (const char* spec : {"mass", "ls", "ls:lambda=0.000001", "ls:clip=20,rounds=200", "mass:clip=0"}) {
    CAPTURE(spec);
    const kv::LayerView view{0, 1, {head}};
    const Fitted better = make(spec)->fit(view, {plan});
    CHECK_NOTHROW(kv::validate(better.plan, view));  // finite, among others
    CHECK(same_but_for_answers(better.plan[0], plan));
    if (!better.errors[0]) continue;
    ++measured;
    CHECK(*better.errors[0] == doctest::Approx(predicted_error(head, better.plan[0])).epsilon(1e-3).scale(1e-6));
  }
  return measured;
}

TEST_CASE("degenerate heads: everything stays finite") {
  Rng rng(5);
  const TestHead usual = random_head(50, 8, 40, rng);
  const auto check = [](const TestHead& source) {
    const kv::HeadView head = source.view();
    check_sound(head, eviction(head, 3));
    check_sound(head, merging(head, 4));
    kv::HeadPlan newest;
    newest.keep(head, head.rows() - 1);
    check_sound(head, newest);
  };
  check(usual);
  CHECK(check_sound(usual.view(), eviction(usual.view(), 3)) > 0);
  TestHead head = usual;
  for (size_t at = 8; at < head.key.size(); ++at) head.key[at] = head.key[at % 8];  // all keys equal
  check(head);
  head.value = head.key;
  check(head);
  head = usual;
  head.value.assign(head.value.size(), 0.0F);
  check(head);
  head.key.assign(head.key.size(), 0.0F);
  check(head);
  for (const float scale : {1e4F, 1e-4F, 1e18F}) {  // logits of this order
    head = usual;
    for (float& key : head.key) key *= scale;
    check(head);
    head = usual;
    for (float& value : head.value) value *= scale;
    check(head);
  }
  for (const float bias : {-60.0F, -150.0F, 60.0F, 150.0F}) {
    head = usual;
    for (uint32_t row = 0; row < 50; row += 2) head.bias[row] = bias;
    check(head);
    head.bias.assign(50, bias);
    check(head);
  }
  head = random_head(1, 8, 40, rng);
  check(head);
  head = random_head(2, 8, 4, rng);
  check(head);
}

TEST_CASE("a plan that changed values before keeps them as its start") {
  Rng rng(6);
  const TestHead source = random_head(60, 8, 60, rng);
  const kv::HeadView head = source.view();
  kv::HeadPlan plan = eviction(head, 3);
  plan.dense.assign(plan.rows(), -1);
  plan.dense[4] = 0;
  plan.dense_value = random_normals(8, rng);
  const kv::HeadPlan mass = fitted("mass", head, plan);
  CHECK(mass.dense == plan.dense);
  CHECK(mass.dense_value == plan.dense_value);
  const kv::HeadPlan pulled = fitted("ls:lambda=1000000", head, plan);
  const LiteralRows was = planned_rows(head, plan), is = planned_rows(head, pulled);
  for (uint32_t at = 0; at < 8; ++at) CHECK(std::abs(is.value[4][at] - was.value[4][at]) < 1e-2);
}

TEST_CASE("a cache without reference queries is refused, unless the plan changes nothing") {
  Rng rng(7);
  const TestHead source = random_head(30, 8, 0, rng);
  const kv::HeadView head = source.view();
  for (const char* name : {"mass", "ls"}) {
    CHECK_THROWS_WITH_AS(fitted(name, head, eviction(head, 2)), doctest::Contains("--kv-fit none"), Error);
    CHECK(is_identity(fitted(name, head, kv::keep_all(head)), head));
  }
  CHECK_NOTHROW(fitted("none", head, eviction(head, 2)));
}

TEST_CASE("where there are too few reference queries to hold one out the plan stays as it is") {
  Rng rng(9);
  for (const uint32_t queries : {1U, 3U}) {
    const TestHead source = random_head(30, 8, queries, rng);
    const kv::HeadPlan plan = eviction(source.view(), 2), fit = fitted("ls", source.view(), plan);
    CHECK(fit.bias == plan.bias);
    CHECK(fit.dense.empty());
  }
}

TEST_CASE("each head of a layer is fitted by itself") {
  Rng rng(8);
  const TestHead first = random_head(50, 8, 40, rng), second = random_head(90, 8, 40, rng);
  const kv::LayerView view{0, 1, {first.view(), second.view(), first.view()}};
  const kv::LayerPlan plan{eviction(view.heads[0], 2), merging(view.heads[1], 3), kv::keep_all(view.heads[2])};
  const kv::LayerPlan better = make("ls")->fit(view, plan).plan;
  CHECK(better[0].dense_value == fitted("ls", view.heads[0], plan[0]).dense_value);
  CHECK(better[1].bias == fitted("ls", view.heads[1], plan[1]).bias);
  CHECK(is_identity(better[2], view.heads[2]));
}

}  // namespace
}  // namespace kvmerger::fit
