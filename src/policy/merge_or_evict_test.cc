// The method against itself written out: every step tries all ways with vectors in double precision, and attention
// comes from the merged keys themselves.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>

#include "policy/test_heads.h"

namespace kvmerger::policy {
namespace {

using Vector = std::vector<double>;

struct Row {
  uint32_t begin, end;
  Vector key, value;
  double bias;
};

double dot(const Vector& x, const Vector& y) {
  double sum = 0.0;
  for (size_t at = 0; at < x.size(); ++at) sum += x[at] * y[at];
  return sum;
}

struct Literal {
  std::vector<Vector> queries, outputs;
  Vector masses;  // of the full head: sum of exponentials
  std::vector<Row> rows;

  explicit Literal(const kv::HeadView& head) {
    const auto vector = [](std::span<const float> row) { return Vector(row.begin(), row.end()); };
    for (uint32_t row = 0; row < head.rows(); ++row) {
      rows.push_back({row, row + 1, vector(head.key[row]), vector(head.value[row]), double{head.bias[row]}});
    }
    for (uint32_t query = 0; query < head.query.count; ++query) {
      queries.push_back(vector(head.query[query]));
      masses.push_back(1.0);
      double mass = 0.0;
      Vector output(head.key.dim);
      for (const Row& row : rows) {
        const double weight = attention(row, query);
        mass += weight;
        for (size_t at = 0; at < output.size(); ++at) output[at] += weight * row.value[at];
      }
      for (double& value : output) value /= mass;
      masses[query] = mass;
      outputs.push_back(output);
    }
  }

  double attention(const Row& row, size_t query) const {
    return std::exp(dot(queries[query], row.key) / std::sqrt(static_cast<double>(row.key.size())) + row.bias) /
           masses[query];
  }
  double total(const Row& row) const {
    double sum = 0.0;
    for (size_t query = 0; query < queries.size(); ++query) sum += attention(row, query);
    return sum;
  }

  Row merged(const Row& a, const Row& b) const {
    const double mass_a = std::exp(a.bias), mass_b = std::exp(b.bias), all = total(a) + total(b);
    Row row{a.begin, b.end, a.key, a.value, std::log(mass_a + mass_b)};
    for (size_t at = 0; at < row.key.size(); ++at) {
      row.key[at] = (mass_a * a.key[at] + mass_b * b.key[at]) / (mass_a + mass_b);
      row.value[at] = (total(a) * a.value[at] + total(b) * b.value[at]) / all;
    }
    return row;
  }

  // sum over queries of |sum of sign * a (v - o)|^2
  double cost(const std::vector<std::pair<double, const Row*>>& changes) const {
    double sum = 0.0;
    for (size_t query = 0; query < queries.size(); ++query) {
      Vector change(outputs[query].size());
      for (const auto& [sign, row] : changes) {
        for (size_t at = 0; at < change.size(); ++at) {
          change[at] += sign * attention(*row, query) * (row->value[at] - outputs[query][at]);
        }
      }
      sum += dot(change, change);
    }
    return sum;
  }

  void run(uint32_t count, uint32_t sinks, uint32_t recent, bool merges) {
    const uint32_t n = static_cast<uint32_t>(rows.size());
    const auto fixed = [&](const Row& row) { return row.begin < sinks || row.end > n - recent; };
    while (rows.size() > count) {
      double best = std::numeric_limits<double>::infinity();
      size_t where = 0;
      bool merge = false;
      for (size_t at = 0; at < rows.size(); ++at) {
        if (fixed(rows[at])) continue;
        if (const double own = cost({{1.0, &rows[at]}}); own < best) best = own, where = at, merge = false;
        if (!merges || at + 1 == rows.size() || fixed(rows[at + 1]) || rows[at].end != rows[at + 1].begin) continue;
        const Row both = merged(rows[at], rows[at + 1]);
        const double own = cost({{1.0, &rows[at]}, {1.0, &rows[at + 1]}, {-1.0, &both}});
        if (own < best) best = own, where = at, merge = true;
      }
      if (merge) rows[where] = merged(rows[where], rows[where + 1]);
      rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(where + merge));
    }
  }
};

Vector sum_of(const kv::Rows& rows, std::span<const kv::Source> sources) {
  Vector sum(rows.dim);
  for (const kv::Source& source : sources) {
    for (uint32_t at = 0; at < rows.dim; ++at) sum[at] += double{source.weight} * double{rows[source.row][at]};
  }
  return sum;
}

void compare(const kv::HeadPlan& plan, const kv::HeadView& head, const Literal& literal) {
  REQUIRE(plan.rows() == literal.rows.size());
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    const Row& expected = literal.rows[row];
    CHECK(plan.key[row].front().row == expected.begin);
    CHECK(plan.key[row].size() == expected.end - expected.begin);
    CHECK(plan.pivot[row] >= expected.begin);
    CHECK(plan.pivot[row] < expected.end);
    CHECK(double{plan.bias[row]} == doctest::Approx(expected.bias).epsilon(1e-4));
    const Vector key = sum_of(head.key, plan.key[row]), value = sum_of(head.value, plan.value[row]);
    for (size_t at = 0; at < key.size(); ++at) {
      CHECK(key[at] == doctest::Approx(expected.key[at]).epsilon(1e-3));
      CHECK(value[at] == doctest::Approx(expected.value[at]).epsilon(1e-3));
    }
  }
}

}  // namespace

TEST_CASE("merge or evict: as all ways tried at every step, written out") {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    for (const bool merges : {true, false}) {
      Rng rng(100 + seed);
      TestHead source = random_head(40, 6, rng);
      source.query = random_normals(rng, 10 * 6);
      for (uint32_t row = 20; row < 24; ++row) source.bias[row] = static_cast<float>(rng.uniform());
      const auto policy =
          make(merges ? "merge_or_evict:sinks=2,recent=4" : "merge_or_evict:sinks=2,recent=4,merge=off");
      const kv::HeadView head = source.view(policy->needs());
      Literal literal(head);
      literal.run(15, 2, 4, merges);
      compare(policy->plan({0, 1, {head}}, std::array<uint32_t, 1>{15})[0], head, literal);
    }
  }
}

TEST_CASE("merge or evict: equal neighbours are merged first, exactly") {
  Rng rng(7);
  TestHead source = random_head(60, 8, rng);
  source.query = random_normals(rng, 12 * 8);
  std::fill(source.bias.begin(), source.bias.end(), 0.0F);
  for (const uint32_t row : {20U, 30U, 31U}) {  // as the row after it
    std::copy_n(source.key_of(row + 1), 8, source.key_of(row));
    std::copy_n(&source.value[(row + 1) * 8], 8, &source.value[row * 8]);
  }
  std::copy_n(source.key_of(32), 8, source.key_of(30));
  std::copy_n(&source.value[32 * 8], 8, &source.value[30 * 8]);
  const auto policy = make("merge_or_evict:recent=4");
  const kv::HeadView head = source.view(policy->needs());
  const kv::HeadPlan plan = policy->plan({0, 1, {head}}, std::array<uint32_t, 1>{57})[0];
  REQUIRE(plan.rows() == 57);
  CHECK(plan.key[20].size() == 2);
  CHECK(double{plan.bias[20]} == doctest::Approx(std::log(2.0)));
  CHECK(plan.key[29].size() == 3);
  CHECK(double{plan.bias[29]} == doctest::Approx(std::log(3.0)));
}

}  // namespace kvmerger::policy
