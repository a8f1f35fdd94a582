// The same number of rows in every head.
#include <algorithm>
#include <numeric>

#include "budget/budget.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

constexpr uint32_t kLeastRows = 8;  // per head: whole layers may not leave the others fewer

// The heads that share `total` out, and what they have.
struct Pool {
  std::vector<uint32_t> heads;
  uint64_t total = 0;
};

uint64_t capped_sum(const Request& request, const std::vector<uint32_t>& heads, uint32_t cap) {
  uint64_t sum = 0;
  for (uint32_t head : heads) sum += std::min(request.have[head], cap);
  return sum;
}

// Largest remainder with equal quotas: the largest level whose rows fit, and one row more for the first heads that have
// it until the total is met. Heads below the level keep all: what they cannot use has gone to the others.
void share_out(const Request& request, const Pool& pool, std::vector<uint32_t>& rows) {
  uint32_t level = 1, above = UINT32_MAX;  // level fits or is the least; above does not, or no head has as many
  while (above - level > 1) {
    const uint32_t middle = level + (above - level) / 2;
    (capped_sum(request, pool.heads, middle) <= pool.total ? level : above) = middle;
  }
  uint64_t used = capped_sum(request, pool.heads, level);
  for (uint32_t head : pool.heads) {
    const bool more = used < pool.total && request.have[head] > level;
    used += more;
    rows[head] = std::min(request.have[head], level) + more;
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

class Uniform final : public HeadBudget {
 public:
  Result rows(const Request& request) const override {
    const uint32_t count = request.layers * request.heads;
    KVM_CHECK(request.have.size() == count && request.whole.size() == request.layers);
    std::vector<uint32_t> all(count), others;
    std::iota(all.begin(), all.end(), 0U);
    for (uint32_t head : all) {
      if (!request.whole[head / request.heads]) others.push_back(head);
    }
    const uint64_t whole_rows = capped_sum(request, all, UINT32_MAX) - capped_sum(request, others, UINT32_MAX);
    Result result{request.have, ""};
    if (request.total >= whole_rows + capped_sum(request, others, kLeastRows)) {
      share_out(request, {others, request.total - whole_rows}, result.rows);
    } else {
      share_out(request, {all, request.total}, result.rows);
      if (whole_rows > 0) result.note = whole_note(request);
    }
    return result;
  }
};

}  // namespace

std::unique_ptr<HeadBudget> make_uniform() { return std::make_unique<Uniform>(); }

}  // namespace kvmerger::budget
