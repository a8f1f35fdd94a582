// Every instruction set of this machine against the reference, and the reference against a case worked out by hand.
#include "kernels/attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "kernels/dispatch.h"
#include "kernels/test_head.h"

namespace kvmerger::kernels {
namespace {

constexpr double kTolerance = 2e-5;
// Over q8_0 rows queries and probabilities are rounded to 2^-16 of the largest number, so logits are off by parts of
// their spread, and what is rounded off adds up over rows: the worst of 10,632 outputs is 2e-4 off at a spread of 3.
// (The rows themselves are rounded to 2^-8.)
constexpr double kQ8Tolerance = 1e-4;  // for a spread of one

struct Case {
  uint32_t rows, queries, head_dim;
  RowType key_type = RowType::kF16, value_type = RowType::kF16;
  bool bias = false, causal = false;
  float spread = 3;  // of the logits, roughly
};

std::string describe(const Case& c) {
  return cat(target_name(), " rows ", c.rows, " queries ", c.queries, " head_dim ", c.head_dim, " key ",
             name_of(c.key_type), " value ", name_of(c.value_type), c.bias ? " bias" : "", c.causal ? " causal" : "");
}

// Query vectors at odd addresses with what each may see.
class TestQueries {
 public:
  TestQueries(const Case& c, uint64_t seed) {
    Rng rng(seed);
    memory_ = random_values(rng, 1 + size_t{c.queries} * (c.head_dim + 1));
    for (uint32_t query = 0; query < c.queries; ++query) {
      pointers_.push_back(memory_.data() + 1 + size_t{query} * (c.head_dim + 1));
      // From nothing to more than everything, in no order.
      visible_.push_back(query % 5 == 4 ? 0 : rng.below(c.rows + 20));
    }
    const float scale = c.spread * std::sqrt(3.0f / static_cast<float>(c.head_dim));
    queries_ = {pointers_.data(), c.queries, c.causal ? visible_.data() : nullptr, scale};
  }
  TestQueries(const TestQueries&) = delete;
  TestQueries& operator=(const TestQueries&) = delete;

  const Queries& get() const { return queries_; }
  std::vector<uint32_t>& visible() { return visible_; }

 private:
  std::vector<float> memory_;
  std::vector<const float*> pointers_;
  std::vector<uint32_t> visible_;
  Queries queries_{};
};

// States of `parts` ranges, at odd addresses and filled with NaN so that what was not written shows.
struct States {
  States(uint32_t parts, uint32_t count, uint32_t head_dim)
      : count(count), head_dim(head_dim), memory(1 + size_t{parts} * count * (head_dim + 2), std::nanf("")) {}

  Partial part(uint32_t index) {
    Partial all = every();
    return {all.max + index * count, all.sum + index * count, all.acc + size_t{index} * count * head_dim};
  }
  Partial every() {
    float* begin = memory.data() + 1;
    const size_t states = (memory.size() - 1) / (head_dim + 2);
    return {begin, begin + states, begin + 2 * states};
  }

  uint32_t count, head_dim;
  std::vector<float> memory;
};

void run_attend(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
                const ColumnStats* stats) {
  std::vector<float> scratch(attend_scratch(queries.count, end - begin, head.head_dim, stats != nullptr) + 2,
                             std::nanf(""));
  const float guard = 1234.5f;
  scratch.front() = scratch.back() = guard;
  attend(head, begin, end, queries, out, stats, scratch.data() + 1);
  REQUIRE(scratch.front() == guard);
  REQUIRE(scratch.back() == guard);
}

// Largest distance of two outputs, relative to the largest value of the expected one.
double distance(const std::vector<double>& expected, const std::vector<double>& found) {
  double largest = 1e-30, difference = 0;
  for (size_t index = 0; index < expected.size(); ++index) {
    if (std::isnan(found[index])) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(expected[index]));
    difference = std::max(difference, std::abs(expected[index] - found[index]));
  }
  return difference / largest;
}

std::vector<double> output(const Partial& state, uint32_t query, uint32_t head_dim) {
  std::vector<double> result(head_dim);
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    const double sum = static_cast<double>(state.sum[query]);
    result[dim] = static_cast<double>(state.acc[size_t{query} * head_dim + dim]) / (sum > 0 ? sum : 1);
  }
  return result;
}

void check_same(const Partial& expected, const Partial& found, uint32_t count, uint32_t head_dim, double tolerance) {
  for (uint32_t query = 0; query < count; ++query) {
    CAPTURE(query);
    if (expected.sum[query] == 0) {
      REQUIRE(found.sum[query] == 0);
      REQUIRE(found.max[query] == -std::numeric_limits<float>::infinity());
    } else {
      REQUIRE(found.max[query] == doctest::Approx(expected.max[query]).epsilon(tolerance));
      // The whole mass on one scale, since the maxima may differ in the last place.
      const double mass = std::log(static_cast<double>(expected.sum[query])) + static_cast<double>(expected.max[query]);
      const double other = std::log(static_cast<double>(found.sum[query])) + static_cast<double>(found.max[query]);
      REQUIRE(std::abs(mass - other) <= tolerance);
    }
    REQUIRE(distance(output(expected, query, head_dim), output(found, query, head_dim)) <= tolerance);
  }
}

void check_case(const Case& c) {
  INFO(describe(c));
  TestHead head(c.rows, c.head_dim, c.key_type, c.value_type, c.rows * 1000 + c.queries);
  Rng rng(c.head_dim);
  if (c.bias) head.add_bias(rng);
  const TestQueries queries(c, c.queries + c.head_dim);
  States expected(1, c.queries, c.head_dim), found(1, c.queries, c.head_dim);
  attend_reference(head.rows(), 0, c.rows, queries.get(), expected.every(), nullptr);
  run_attend(head.rows(), 0, c.rows, queries.get(), found.every(), nullptr);
  const bool q8 = c.key_type == RowType::kQ8 || c.value_type == RowType::kQ8;
  check_same(expected.every(), found.every(), c.queries, c.head_dim,
             q8 ? kQ8Tolerance * static_cast<double>(c.spread) : kTolerance);
}

constexpr uint32_t kLengths[] = {0, 1, 15, 16, 17, 31, 33, 48, 64, 65, 100, 200};
constexpr uint32_t kQueryCounts[] = {1, 2, 3, 5, 6, 7, 9, 12, 13, 48, 64};
constexpr uint32_t kHeadDims[] = {4, 8, 32, 64, 80, 96, 128, 256};
constexpr RowType kTypes[] = {RowType::kF32, RowType::kF16, RowType::kQ8};

}  // namespace

TEST_CASE("two rows worked out by hand") {
  // head_dim 4, scale 0.5. q = (2, 0, 1, 0); k0 = (1, 5, 2, 5): q.k0 * scale = 2; k1 = (3, 5, -4, 5): 1.
  // bias (0, 1 + ln 3): logits 2 and 2 + ln 3, so the weights are 1/4 and 3/4.
  const float keys[] = {1, 5, 2, 5, 3, 5, -4, 5};
  const float values[] = {4, 0, -8, 1, 8, 4, 0, 1};
  std::vector<std::byte> key(4 * kPageRows * 4), value(4 * kPageRows * 4);
  write_rows(key.data(), value.data(), RowType::kF32, RowType::kF32, 4, 0, 2, keys, values, 4);
  float bias[kPageRows] = {0, 1 + std::log(3.0f)};
  const PageView page{key.data(), value.data(), bias};
  const HeadRows head{&page, 2, 4, RowType::kF32, RowType::kF32};
  const float query[] = {2, 0, 1, 0};
  const float* data[] = {query, query};
  const uint32_t visible[] = {2, 1};
  const Queries queries{data, 2, visible, 0.5f};

  const auto check = [&](const auto& attend_function) {
    float max[2], sum[2], acc[8];
    float total[] = {10, 20}, window[] = {0, 0}, most[] = {0.5f, 0.5f};
    const uint8_t in_window[] = {0, 1};
    const ColumnStats stats{total, window, most, in_window};
    attend_function({max, sum, acc}, stats);
    CHECK(max[0] == doctest::Approx(2 + std::log(3.0)));
    CHECK(sum[0] == doctest::Approx(4.0 / 3));
    const double expected[] = {7, 3, -2, 1};
    for (int dim = 0; dim < 4; ++dim) CHECK(acc[dim] / sum[0] == doctest::Approx(expected[dim]));
    CHECK(max[1] == doctest::Approx(2));
    CHECK(sum[1] == doctest::Approx(1));
    for (int dim = 0; dim < 4; ++dim) CHECK(acc[4 + dim] == doctest::Approx(values[dim]));
    CHECK(total[0] == doctest::Approx(11.25));
    CHECK(total[1] == doctest::Approx(20.75));
    CHECK(window[0] == doctest::Approx(1));
    CHECK(window[1] == doctest::Approx(0));
    CHECK(most[0] == doctest::Approx(1));
    CHECK(most[1] == doctest::Approx(0.75));
  };
  check([&](const Partial& out, const ColumnStats& stats) { attend_reference(head, 0, 2, queries, out, &stats); });
  on_every_target([&] {
    check([&](const Partial& out, const ColumnStats& stats) { run_attend(head, 0, 2, queries, out, &stats); });
  });
}

TEST_CASE("attend equals the reference: lengths, query counts, head sizes, types") {
  on_every_target([] {
    for (const uint32_t rows : kLengths) {
      for (const uint32_t queries : kQueryCounts) check_case({rows, queries, 64});
    }
    for (const uint32_t head_dim : kHeadDims) {
      for (const uint32_t queries : kQueryCounts) {
        for (const RowType type : kTypes) check_case({100, queries, head_dim, type, type});
      }
    }
    check_case({65, 3, 80, RowType::kF16, RowType::kF32});
    check_case({65, 48, 80, RowType::kF32, RowType::kF16});
    check_case({65, 3, 80, RowType::kQ8, RowType::kF16});
    check_case({65, 48, 80, RowType::kF16, RowType::kQ8});
    // q8_0 keys in odd pairs and alone, values in narrow panels.
    for (const uint32_t head_dim : {5u, 20u, 38u, 100u}) check_case({65, 7, head_dim, RowType::kQ8, RowType::kQ8});
  });
}

TEST_CASE("attend equals the reference: biases on some pages, visible rows from none to all") {
  on_every_target([] {
    for (const uint32_t rows : kLengths) {
      for (const uint32_t queries : {3u, 7u, 48u}) {
        for (const RowType type : kTypes) {
          check_case({rows, queries, 32, type, type, true, false});
          check_case({rows, queries, 32, type, type, true, true});
          check_case({rows, queries, 32, type, type, false, true, 20});
        }
      }
    }
  });
}

TEST_CASE("q8_0: rows that nobody sees and slots behind the last row change no bit") {
  on_every_target([] {
    INFO(std::string(target_name()));
    const uint32_t rows = 37, dim = 64;
    const Case c{rows, 7, dim, RowType::kQ8, RowType::kQ8};
    const std::vector<uint32_t> visible(c.queries, 35);
    std::vector<float> found[2];
    for (const bool huge : {false, true}) {
      TestHead head(rows, dim, RowType::kQ8, RowType::kQ8, 18);
      const std::vector<float> unseen(16 * dim, huge ? 1e4f : 0.0f);
      write_rows(head.key(2), head.value(2), RowType::kQ8, RowType::kQ8, dim, 3, kPageRows - 3, unseen.data(),
                 unseen.data(), dim);
      const TestQueries queries(c, 19);
      Queries limited = queries.get();
      limited.visible = visible.data();
      States states(1, c.queries, dim), expected(1, c.queries, dim);
      run_attend(head.rows(), 0, rows, limited, states.every(), nullptr);
      attend_reference(head.rows(), 0, rows, limited, expected.every(), nullptr);
      check_same(expected.every(), states.every(), c.queries, dim, kQ8Tolerance * 3);
      found[huge ? 1 : 0].assign(states.memory.begin() + 1, states.memory.end());
    }
    CHECK(std::memcmp(found[0].data(), found[1].data(), found[0].size() * sizeof(float)) == 0);
  });
}

TEST_CASE("q8_0: a huge value without weight does not coarsen the others") {
  on_every_target([] {
    INFO(std::string(target_name()));
    const uint32_t rows = 64, dim = 64;
    const Case c{rows, 3, dim, RowType::kF32, RowType::kQ8};
    TestHead head(rows, dim, RowType::kF32, RowType::kQ8, 20);
    std::vector<float> bias(kPageRows), key(dim), value(dim, 1e4f);
    write_rows(head.key(0), head.value(0), RowType::kF32, RowType::kQ8, dim, 5, 1, key.data(), value.data(), dim);
    bias[5] = -200;
    std::vector<PageView> pages(head.rows().pages, head.rows().pages + rows / kPageRows);
    pages[0].bias = bias.data();
    HeadRows biased = head.rows();
    biased.pages = pages.data();
    const TestQueries queries(c, 21);
    States expected(1, c.queries, dim), found(1, c.queries, dim);
    attend_reference(biased, 0, rows, queries.get(), expected.every(), nullptr);
    run_attend(biased, 0, rows, queries.get(), found.every(), nullptr);
    check_same(expected.every(), found.every(), c.queries, dim, kQ8Tolerance * 3);
  });
}

TEST_CASE("parts from later pages on, combined, equal the whole") {
  const Case c{200, 9, 80, RowType::kF16, RowType::kF16, true, true};
  TestHead head(c.rows, c.head_dim, c.key_type, c.value_type, 5);
  Rng rng(6);
  head.add_bias(rng);
  const TestQueries queries(c, 7);
  States whole(1, c.queries, c.head_dim);
  attend_reference(head.rows(), 0, c.rows, queries.get(), whole.every(), nullptr);
  on_every_target([&] {
    for (uint32_t parts = 1; parts <= 5; ++parts) {
      INFO(describe(c), " parts ", parts);
      States states(parts, c.queries, c.head_dim);
      const uint32_t step = (c.rows / parts + kPageRows) / kPageRows * kPageRows;
      for (uint32_t part = 0; part < parts; ++part) {
        const uint32_t begin = std::min(part * step, c.rows / kPageRows * kPageRows);
        run_attend(head.rows(), begin, std::min(begin + step, c.rows), queries.get(), states.part(part), nullptr);
      }
      std::vector<float> memory(1 + c.queries * c.head_dim, std::nanf(""));
      std::vector<float*> outputs;
      for (uint32_t query = 0; query < c.queries; ++query) outputs.push_back(&memory[1 + query * c.head_dim]);
      combine(states.every(), parts, c.queries, c.head_dim, outputs.data());
      for (uint32_t query = 0; query < c.queries; ++query) {
        CAPTURE(query);
        const std::vector<double> found(outputs[query], outputs[query] + c.head_dim);
        REQUIRE(distance(output(whole.every(), query, c.head_dim), found) <= kTolerance);
      }
    }
  });
}

TEST_CASE("combine follows exp(max - largest max) * acc / sum") {
  // Two parts, one query: weights e^0 and e^-ln2 = 1/2; sums 1 and 4: total 3; acc (3, 6..), (12, 0..).
  float max[] = {5, 5 - std::log(2.0f)};
  float sum[] = {1, 4};
  float acc[] = {3, 6, 3, 0, 12, 0, 6, 3};
  on_every_target([&] {
    float result[4];
    float* output = result;
    combine({max, sum, acc}, 2, 1, 4, &output);
    const double expected[] = {3, 2, 2, 0.5};
    for (int dim = 0; dim < 4; ++dim) CHECK(result[dim] == doctest::Approx(expected[dim]));
  });
}

TEST_CASE("column statistics equal the reference and add to what is there") {
  on_every_target([] {
    for (const Case& c : {Case{200, 48, 64, RowType::kF16, RowType::kF16, true, true}, Case{65, 3, 32}, Case{17, 13, 8},
                          Case{130, 64, 64, RowType::kF32, RowType::kF32, false, true, 20}}) {
      INFO(describe(c));
      TestHead head(c.rows, c.head_dim, c.key_type, c.value_type, 8);
      Rng rng(9);
      if (c.bias) head.add_bias(rng);
      const TestQueries queries(c, 10);
      std::vector<uint8_t> in_window(c.queries);
      for (uint8_t& flag : in_window) flag = static_cast<uint8_t>(rng.below(2));
      States states(1, c.queries, c.head_dim);
      std::vector<float> before = random_values(rng, 3 * c.rows);
      std::vector<float> expected = before, found = before;
      found.push_back(99);  // nothing is written behind the rows
      const auto stats_in = [&](std::vector<float>& all) {
        return ColumnStats{all.data(), all.data() + c.rows, all.data() + 2 * c.rows, in_window.data()};
      };
      const ColumnStats reference = stats_in(expected), measured = stats_in(found);
      attend_reference(head.rows(), 0, c.rows, queries.get(), states.every(), &reference);
      run_attend(head.rows(), 0, c.rows, queries.get(), states.every(), &measured);
      REQUIRE(found.back() == 99);
      for (size_t index = 0; index < expected.size(); ++index) {
        REQUIRE(found[index] == doctest::Approx(expected[index]).epsilon(kTolerance));
      }
      // Members that are null are skipped; the others come out the same.
      std::vector<float> alone = before;
      const ColumnStats only_max{nullptr, nullptr, alone.data() + 2 * c.rows, nullptr};
      run_attend(head.rows(), 0, c.rows, queries.get(), states.every(), &only_max);
      found.pop_back();
      REQUIRE(std::equal(alone.begin(), alone.begin() + 2 * c.rows, before.begin()));
      REQUIRE(std::equal(alone.begin() + 2 * c.rows, alone.end(), found.begin() + 2 * c.rows));
    }
  });
}

TEST_CASE("without window and maximum the mass of every seeing query adds up to one") {
  on_every_target([] {
    const Case c{150, 20, 64, RowType::kF16, RowType::kF16, false, true};
    const TestHead head(c.rows, c.head_dim, c.key_type, c.value_type, 11);
    const TestQueries queries(c, 12);
    States states(1, c.queries, c.head_dim);
    std::vector<float> sums(c.rows);
    const ColumnStats stats{sums.data(), nullptr, nullptr, nullptr};
    run_attend(head.rows(), 0, c.rows, queries.get(), states.every(), &stats);
    const uint32_t* visible = queries.get().visible;
    const auto seeing = std::count_if(visible, visible + c.queries, [](uint32_t rows) { return rows > 0; });
    double total = 0;
    for (const float sum : sums) total += static_cast<double>(sum);
    CHECK(total == doctest::Approx(static_cast<double>(seeing)).epsilon(kTolerance));
  });
}

TEST_CASE("the same input gives the same bytes") {
  on_every_target([] {
    const Case c{200, 13, 64, RowType::kF16, RowType::kF16, true, true};
    TestHead head(c.rows, c.head_dim, c.key_type, c.value_type, 13);
    Rng rng(14);
    head.add_bias(rng);
    const TestQueries queries(c, 15);
    States first(1, c.queries, c.head_dim), second(1, c.queries, c.head_dim);
    run_attend(head.rows(), 0, c.rows, queries.get(), first.every(), nullptr);
    run_attend(head.rows(), 0, c.rows, queries.get(), second.every(), nullptr);
    CHECK(std::memcmp(first.memory.data() + 1, second.memory.data() + 1, (first.memory.size() - 1) * 4) == 0);
  });
}

TEST_CASE("exponentials are right to 3e-7 of rounded logits and zero where floats end") {
  // Keys of zero leave the biases as logits, and unit vectors as values leave exp(bias - 0) in acc.
  on_every_target([] {
    INFO(std::string(target_name()));
    constexpr uint32_t kDim = kPageRows;
    std::vector<float> keys(kDim * kPageRows), values(kDim * kPageRows), query(kDim, 1.0f);
    for (uint32_t row = 0; row < kPageRows; ++row) values[row * kDim + row] = 1;
    float bias[kPageRows] = {};
    const PageView page{reinterpret_cast<const std::byte*>(keys.data()),
                        reinterpret_cast<const std::byte*>(values.data()), bias};
    const HeadRows head{&page, kPageRows, kDim, RowType::kF32, RowType::kF32};
    const float* data[] = {query.data()};
    States states(1, 1, kDim);
    for (float least = 0; least > -87; least -= 0.01f) {
      for (uint32_t row = 1; row < kPageRows; ++row) bias[row] = least - static_cast<float>(row) * 0.0007f;
      run_attend(head, 0, kPageRows, {data, 1, nullptr, 1.0f}, states.every(), nullptr);
      for (uint32_t row = 0; row < kPageRows; ++row) {
        const double expected = std::exp(static_cast<double>(bias[row]));
        const double rounded = 1e-7 * std::abs(static_cast<double>(bias[row]));  // the logit itself, to a float
        REQUIRE(std::abs(static_cast<double>(states.every().acc[row]) - expected) <= (3e-7 + rounded) * expected);
      }
    }
    for (float least = -87; least > -110; least -= 0.01f) {
      for (uint32_t row = 1; row < kPageRows; ++row) bias[row] = least - static_cast<float>(row) * 0.0007f;
      run_attend(head, 0, kPageRows, {data, 1, nullptr, 1.0f}, states.every(), nullptr);
      for (uint32_t row = 1; row < kPageRows; ++row) {
        REQUIRE(states.every().acc[row] >= 0.0f);
        REQUIRE(states.every().acc[row] <= (bias[row] < -104.0f ? 0.0f : 1.7e-38f));
      }
    }
  });
}

TEST_CASE("huge logits of either sign give finite outputs") {
  on_every_target([] {
    for (const uint32_t rows : {1u, 16u, 70u, 200u}) {
      for (const float magnitude : {1e5f, 1e30f, 5e37f}) {
        for (const bool negative : {false, true}) {
          INFO(std::string(target_name()), " rows ", rows, " magnitude ", magnitude, " negative ", negative);
          const uint32_t kDim = 16;
          TestHead head(rows, kDim, RowType::kF32, RowType::kF32, 16);
          // Row r has the key (r + 1, 0, ...): the largest logit is the last row's, or the first's if negative.
          for (uint32_t row = 0; row < rows; ++row) {
            float* key = reinterpret_cast<float*>(head.key(row / kPageRows));
            for (uint32_t dim = 0; dim < kDim; ++dim) {
              key[dim * kPageRows + row % kPageRows] = dim == 0 ? static_cast<float>(row + 1) : 0.0f;
            }
          }
          std::vector<float> query(kDim, 1.0f);
          query[0] = (negative ? -magnitude : magnitude) / static_cast<float>(rows + 1);
          const float* data[] = {query.data()};
          States states(1, 1, kDim);
          run_attend(head.rows(), 0, rows, {data, 1, nullptr, 1.0f}, states.every(), nullptr);
          const uint32_t winner = negative ? 0 : rows - 1;
          const float* value = reinterpret_cast<const float*>(head.value(winner / kPageRows));
          CHECK(states.every().sum[0] == 1.0f);
          for (uint32_t dim = 0; dim < kDim; ++dim) {
            CHECK(states.every().acc[dim] == value[winner % kPageRows * kDim + dim]);
          }
        }
      }
    }
  });
}

TEST_CASE("logits beyond the range of floats are held at the limit") {
  on_every_target([] {
    for (const uint32_t rows : {2u, 64u, 130u}) {
      INFO(std::string(target_name()), " rows ", rows);
      const uint32_t kDim = 4;
      TestHead head(rows, kDim, RowType::kF32, RowType::kF32, 17);
      for (uint32_t row = 0; row < rows; ++row) {
        float* key = reinterpret_cast<float*>(head.key(row / kPageRows));
        for (uint32_t dim = 0; dim < kDim; ++dim) key[dim * kPageRows + row % kPageRows] = 1e30f;
      }
      const float query[] = {-1e30f, 0, 0, 0};
      const float* data[] = {query};
      States states(1, 1, kDim);
      run_attend(head.rows(), 0, rows, {data, 1, nullptr, 1.0f}, states.every(), nullptr);
      CHECK(states.every().sum[0] == static_cast<float>(rows));
      CHECK(states.every().max[0] == doctest::Approx(-kLogitLimit));
    }
  });
}

TEST_CASE("targets have names, and an unknown one is refused with the list") {
  const std::vector<std::string> names = target_names();
  REQUIRE(!names.empty());
  CHECK(names.back() == "SCALAR");
  use_target_for_test("scalar");
  CHECK(std::string(target_name()) == "SCALAR");
  use_target_for_test(names.front());
  CHECK(target_name() == names.front());
  CHECK_THROWS_AS(use_target_for_test("sse9"), Error);

  const char* before = std::getenv("KVMERGER_TARGET");
  const std::string kept = before == nullptr ? "" : before;
  setenv("KVMERGER_TARGET", "sse9", 1);
  try {
    check_target();
    FAIL("check_target accepted sse9");
  } catch (const Error& error) {
    for (const std::string& name : names) CHECK(std::string(error.what()).find(name) != std::string::npos);
  }
  setenv("KVMERGER_TARGET", "Scalar", 1);
  CHECK_NOTHROW(check_target());
  before == nullptr ? unsetenv("KVMERGER_TARGET") : setenv("KVMERGER_TARGET", kept.c_str(), 1);
}

}  // namespace kvmerger::kernels
