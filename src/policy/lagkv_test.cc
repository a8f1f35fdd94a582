// LagKV against sorting every partition by itself, and against numpy.
#include <doctest/doctest.h>

#include <algorithm>

#include "policy/test_rivals.h"

namespace kvmerger::policy {
namespace {

struct Lag {
  uint32_t sinks, rows;
};

// exp of the deviation of a row's channels on the scale of the partition at `next`: two passes per channel.
double spread(const std::vector<float>& rows, uint32_t dim, uint32_t row, uint32_t next, uint32_t lag) {
  double sum = 0, squares = 0;
  for (uint32_t at = 0; at < dim; ++at) {
    std::vector<double> channel;
    for (uint32_t other = next; other < next + lag; ++other) channel.push_back(double{rows[other * dim + at]});
    const auto [least, most] = std::ranges::minmax(channel);
    const double scaled = most > least ? (double{rows[row * dim + at]} - least) / (most - least) : 0.0;
    sum += scaled, squares += scaled * scaled;
  }
  return std::exp(std::sqrt((squares - sum * sum / dim) / (dim - 1)));
}

// [lag] the partition's scores: K and V share by share.
std::vector<double> literal_scores(const TestHead& head, uint32_t begin, uint32_t lag) {
  double keys = 0, values = 0;
  for (uint32_t row = begin; row < begin + lag; ++row) {
    keys += spread(head.key, head.dim, row, begin + lag, lag);
    values += spread(head.value, head.dim, row, begin + lag, lag);
  }
  std::vector<double> scores;
  for (uint32_t row = begin; row < begin + lag; ++row) {
    const double key = spread(head.key, head.dim, row, begin + lag, lag) / keys;
    scores.push_back((key + spread(head.value, head.dim, row, begin + lag, lag) / values) / 2);
  }
  return scores;
}

// Drops the worst of every partition, then the second of every partition and so on; at last the oldest of the rest.
std::vector<uint32_t> literal_kept(const TestHead& head, uint32_t budget, Lag lag) {
  std::vector<std::vector<uint32_t>> worst_first;
  uint32_t begin = lag.sinks;
  for (; begin + 2 * lag.rows <= head.rows; begin += lag.rows) {
    const std::vector<double> scores = literal_scores(head, begin, lag.rows);
    std::vector<uint32_t> rows;
    for (uint32_t row = begin; row < begin + lag.rows; ++row) rows.push_back(row);
    std::ranges::stable_sort(rows, [&](uint32_t left, uint32_t right) {
      const double one = scores[left - begin], other = scores[right - begin];
      return one < other || (one == other && left > right);
    });
    worst_first.push_back(rows);
  }
  std::vector<uint32_t> order;  // in which rows go
  for (uint32_t round = 0; round < lag.rows; ++round) {
    for (auto partition = worst_first.rbegin(); partition != worst_first.rend(); ++partition) {
      order.push_back((*partition)[round]);
    }
  }
  for (uint32_t row = begin; row + 1 < head.rows; ++row) order.push_back(row);
  for (uint32_t sink = std::min(lag.sinks, head.rows - 1); sink > 0; --sink) order.push_back(sink - 1);
  order.resize(head.rows - budget);
  std::vector<uint32_t> kept;
  for (uint32_t row = 0; row < head.rows; ++row) {
    if (!std::ranges::count(order, row)) kept.push_back(row);
  }
  return kept;
}

TEST_CASE("lagkv: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    for (const Lag lag : {Lag{4, 8}, Lag{0, 5}, Lag{2, 40}, Lag{4, 128}}) {
      const std::string spec = cat("lagkv:sinks=", lag.sinks, ",lag=", lag.rows);
      CHECK(kept_by(spec, head, budget) == literal_kept(head, budget, lag));
    }
  });
}

TEST_CASE("lagkv: scores and rows as numpy") {
  const TestHead head = rival_head(0);
  const std::vector<float> scores = make("lagkv:sinks=3,lag=6,cross=on")->row_scores(head.view({}), rivals::kKept);
  const auto first = scores.begin() + 3;
  CHECK(difference(std::vector<float>(first, first + 12), rivals::kLagCross) == "");
  CHECK(kept_by("lagkv:sinks=3,lag=6", head, rivals::kKept) == rivals::kLagKept);
}

TEST_CASE("lagkv: with few rows it is the first and the newest") {
  Rng rng(1);
  const TestHead head = random_head(259, 4, rng);  // one less than 4 sinks and two partitions of 128
  CHECK(kept_by("lagkv", head, 50) == kept_by("streaming_llm", head, 50));
  Rng more(1);
  const TestHead longer = random_head(260, 4, more);
  CHECK(kept_by("lagkv", longer, 150) != kept_by("streaming_llm", longer, 150));
  CHECK(kept_by("lagkv", longer, 132) == kept_by("streaming_llm", longer, 132));  // the last partition and the sinks
}

TEST_CASE("lagkv: partitions give up equal shares, equal rows leave the lower") {
  Rng rng(2);
  TestHead head = random_head(100, 4, rng);
  const std::vector<uint32_t> kept = kept_by("lagkv:sinks=0,lag=10", head, 10 + 9 * 4);
  for (uint32_t partition = 0; partition < 9; ++partition) {
    CHECK(std::ranges::count_if(kept, [&](uint32_t row) { return row / 10 == partition; }) == 4);
  }
  std::ranges::fill(head.key, 1.0F);
  std::ranges::fill(head.value, -2.0F);
  for (const uint32_t row : kept_by("lagkv:sinks=0,lag=10", head, 10 + 9 * 4)) {
    CHECK((row >= 90 || row % 10 < 4));
  }
}

}  // namespace
}  // namespace kvmerger::policy
