// H2O, StreamingLLM and SnapKV against literal second implementations and a torch program; the shared selection.
#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <set>

#include "policy/score_policy.h"
#include "policy/test_heads.h"
#include "policy/test_vectors.h"

namespace kvmerger::policy {
namespace {

using Kept = std::vector<uint32_t>;

TEST_CASE("a share of rows is rounded down as in rational arithmetic") {
  uint32_t wrong = 0;
  for (uint32_t percent = 0; percent <= 100; ++percent) {
    for (uint32_t n = 1; n <= 1000; ++n) wrong += share_rows(percent / 100.0, n) != percent * n / 100;
  }
  for (uint32_t millionths = 0; millionths <= 1000000; ++millionths) {
    wrong += share_rows(millionths / 1e6, 1000000) != millionths;
  }
  CHECK(wrong == 0);
  CHECK(share_rows(1.0, 4000000000U) == 4000000000U);
}

TEST_CASE("top rows: the best, ascending, ties to the lower index") {
  const std::vector<float> scores{1, 3, 3, 0, 3, 2};
  CHECK(top_rows(scores, 1) == Kept{1});
  CHECK(top_rows(scores, 2) == Kept{1, 2});
  CHECK(top_rows(scores, 4) == Kept{1, 2, 4, 5});
  CHECK(top_rows(scores, 6) == Kept{0, 1, 2, 3, 4, 5});
  CHECK(top_rows(scores, 0) == Kept{});
}

TEST_CASE("protection gives way in order: recent rows, then sinks, never the newest") {
  const auto fits = [](Protection wanted, uint32_t rows) {
    const Protection got = within(wanted, rows);
    return std::pair(got.sinks, got.recent);
  };
  CHECK(fits({4, 32}, 100) == std::pair(4U, 32U));
  CHECK(fits({4, 32}, 20) == std::pair(4U, 16U));
  CHECK(fits({4, 32}, 5) == std::pair(4U, 1U));
  CHECK(fits({4, 32}, 3) == std::pair(2U, 1U));
  CHECK(fits({4, 0}, 1) == std::pair(0U, 1U));
}

// As the cache would shrink: one row goes at a time.
template <typename Score>
Kept evict_one_by_one(uint32_t n, uint32_t budget, const std::set<uint32_t>& safe, const Score& score) {
  std::list<uint32_t> rows;
  for (uint32_t row = 0; row < n; ++row) rows.push_back(row);
  while (rows.size() > budget) {
    auto worst = rows.end();
    for (auto row = rows.begin(); row != rows.end(); ++row) {
      if (!safe.contains(*row) && (worst == rows.end() || score(*row) <= score(*worst))) worst = row;
    }
    rows.erase(worst);
  }
  return {rows.begin(), rows.end()};
}

// The newest, then the first rows, then older ones, as many as there is room for.
std::set<uint32_t> safe_rows(uint32_t n, uint32_t budget, uint32_t sinks, uint32_t recent) {
  std::set<uint32_t> safe{n - 1};
  for (uint32_t row = 0; row < sinks && safe.size() < budget; ++row) safe.insert(row);
  for (uint32_t back = 2; back <= std::min(recent, n) && safe.size() < budget; ++back) safe.insert(n - back);
  return safe;
}

// Calls check(head, budget) for many random heads.
template <typename Check>
void with_random_heads(const Check& check) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Rng rng(seed);
    const uint32_t n = 2 + rng.below(150);
    TestHead head = rng.below(2) ? random_head(n, 4, rng) : merged_head(n, 4, rng);
    if (seed % 5 == 0) {  // ties
      for (float& attention : head.attn_sum) attention = static_cast<float>(rng.below(3));
      head.attn_win = head.attn_sum;
    }
    check(head, 1 + rng.below(n - 1));
  }
}

TEST_CASE("h2o: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    const auto score = [&](uint32_t row) { return head.attn_sum[row]; };
    const auto expected = [&](uint32_t sinks, uint32_t recent) {
      return evict_one_by_one(head.rows, budget, safe_rows(head.rows, budget, sinks, recent), score);
    };
    CHECK(kept_by("h2o", head, budget) == expected(0, budget / 2));
    CHECK(kept_by("h2o:recent=0.25,sinks=4", head, budget) == expected(4, budget / 4));
    CHECK(kept_by("h2o:recent=0", head, budget) == expected(0, 1));
  });
}

TEST_CASE("streaming_llm: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    for (uint32_t sinks : {0U, 4U, 9U}) {
      const std::set<uint32_t> kept = safe_rows(head.rows, budget, sinks, head.rows);
      CHECK(kept_by(cat("streaming_llm:sinks=", sinks), head, budget) == Kept(kept.begin(), kept.end()));
    }
  });
}

// Scores of the rows older than the window, pooled over a copy with `reach` zeros on either side.
std::map<uint32_t, double> pooled(const TestHead& head, uint32_t window, uint32_t reach, bool max) {
  const uint32_t older = head.rows > window ? head.rows - window : 0;
  std::vector<double> padded(reach, 0.0);
  for (uint32_t row = 0; row < older; ++row) padded.push_back(double{head.attn_win[row]});
  padded.resize(padded.size() + reach, 0.0);
  std::map<uint32_t, double> scores;
  for (uint32_t row = 0; row < older; ++row) {
    double sum = 0, largest = 0;
    for (uint32_t at = row; at <= row + 2 * reach; ++at) sum += padded[at], largest = std::max(largest, padded[at]);
    scores[row] = double{static_cast<float>(max ? largest : sum)};
  }
  return scores;
}

TEST_CASE("snapkv: literal second implementation") {
  with_random_heads([](const TestHead& head, uint32_t budget) {
    const auto expected = [&](uint32_t window, uint32_t kernel, bool max) {
      std::map<uint32_t, double> scores = pooled(head, window, kernel / 2, max);
      const auto score = [&](uint32_t row) { return scores[row]; };
      return evict_one_by_one(head.rows, budget, safe_rows(head.rows, budget, 0, window), score);
    };
    CHECK(kept_by("snapkv", head, budget) == expected(32, 7, false));
    CHECK(kept_by("snapkv:window=8,kernel=5,pool=max", head, budget) == expected(8, 5, true));
    CHECK(kept_by("snapkv:window=1,kernel=1", head, budget) == expected(1, 1, false));
  });
}

TEST_CASE("snapkv asks for attention of its window") {
  CHECK(make("snapkv")->needs().window == 32);
  CHECK(make("snapkv:window=48")->needs().window == 48);
  CHECK_THROWS_AS(make("snapkv:kernel=4"), UsageError);
}

TEST_CASE("h2o, streaming_llm, snapkv: as the torch program") {
  Rng rng(1);
  TestHead head = random_head(vectors::kRows, vectors::kDim, rng);
  head.attn_sum = vectors::kAttnSum;
  head.attn_win = vectors::kAttnWin;
  CHECK(kept_by("h2o", head, vectors::kKept) == vectors::kH2oKept);
  CHECK(kept_by("streaming_llm", head, vectors::kKept) == vectors::kStreamingKept);
  CHECK(kept_by("snapkv:window=4,kernel=5", head, vectors::kKept) == vectors::kSnapKept);
}

}  // namespace
}  // namespace kvmerger::policy
