#include "budget/budget.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace kvmerger::budget {
namespace {

constexpr uint32_t kLeastRows = 8;  // per head: whole layers may not leave the others fewer
constexpr int kHalvings = 100;      // of the factor's range

uint64_t capped_sum(const Request& request, const std::vector<uint32_t>& heads, uint32_t cap) {
  uint64_t sum = 0;
  for (uint32_t head : heads) sum += std::min(request.have[head], cap);
  return sum;
}

// [pool.heads] the wishes times one factor, within 1 .. have, adding up to the total or just below.
std::vector<double> scaled(const Request& request, const Pool& pool, const std::vector<double>& wishes) {
  std::vector<double> rows(wishes.size());
  const auto scale = [&](double factor) {
    double sum = 0.0;
    for (size_t at = 0; at < wishes.size(); ++at) {
      const double have = request.have[pool.heads[at]];
      sum += rows[at] = std::clamp(wishes[at] * factor, std::min(1.0, have), have);
    }
    return sum;
  };
  const auto total = static_cast<double>(pool.total);
  double low = 0.0, high = 1.0;
  while (scale(high) < total && high < 1e30) high *= 2;
  for (int halving = 0; halving < kHalvings; ++halving) {
    const double middle = (low + high) / 2;
    (scale(middle) <= total ? low : high) = middle;
  }
  scale(low);
  return rows;
}

// Largest remainder; of equals the first head.
void share_out(const Request& request, const Pool& pool, const std::vector<double>& wishes,
               std::vector<uint32_t>& rows) {
  const std::vector<double> exact = scaled(request, pool, wishes);
  uint64_t used = 0;
  for (size_t at = 0; at < exact.size(); ++at) used += rows[pool.heads[at]] = static_cast<uint32_t>(exact[at]);
  std::vector<size_t> order(exact.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto remainder = [&](size_t at) { return exact[at] - std::floor(exact[at]); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return remainder(a) > remainder(b); });
  // A second round is needed only where the factor's rounding left more than a row a head.
  for (bool more = true; more && used < pool.total;) {
    more = false;
    for (const size_t at : order) {
      uint32_t& own = rows[pool.heads[at]];
      if (used == pool.total || own == request.have[pool.heads[at]]) continue;
      ++own, ++used;
      more = true;
    }
  }
}

std::string whole_note(const Request& request) {
  std::string layers;
  for (uint32_t layer = 0; layer < request.layers; ++layer) {
    if (request.whole[layer]) layers += cat(layers.empty() ? "" : ", ", layer);
  }
  return cat("layers ", layers,
             ", which the policy would leave whole, are compressed too: at this budget they would leave ",
             "the others fewer than ", kLeastRows, " rows per head");
}

}  // namespace

Result HeadBudget::rows(const Request& request) const {
  const uint32_t count = request.layers * request.heads;
  KVM_CHECK(request.have.size() == count && request.whole.size() == request.layers);
  KVM_CHECK(scores() == Scores::kNone || request.scores.size() == count);
  KVM_CHECK(!needs_profile() || request.profile);
  Pool all{{}, request.total}, others;
  for (uint32_t head = 0; head < count; ++head) {
    all.heads.push_back(head);
    if (!request.whole[head / request.heads]) others.heads.push_back(head);
  }
  const uint64_t everything = capped_sum(request, all.heads, UINT32_MAX);
  const uint64_t whole_rows = everything - capped_sum(request, others.heads, UINT32_MAX);
  Result result{request.have, ""};
  if (request.total >= everything) return result;
  const bool keeps_whole = request.total >= whole_rows + capped_sum(request, others.heads, kLeastRows);
  others.total = request.total - whole_rows;
  const Pool& pool = keeps_whole ? others : all;
  share_out(request, pool, wishes(request, pool), result.rows);
  if (!keeps_whole && whole_rows > 0) result.note = whole_note(request);
  return result;
}

}  // namespace kvmerger::budget
