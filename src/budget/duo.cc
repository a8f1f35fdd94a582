// Rows for retrieval heads, as DuoAttention shares them (arXiv 2410.10819): some heads keep everything, the others the
// ends of the text. Which heads retrieve is trained there; here it is read from the profile.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "budget/budget.h"

namespace kvmerger::budget {
namespace {

class Duo final : public HeadBudget {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.whole("local", local_, 1, 65536, "rows of a head that does not retrieve");
    visitor.real("threshold", threshold_, 1e-6, 1, "a row counts as retrieved from this attention on");
  }
  bool needs_profile() const override { return true; }

 protected:
  std::vector<double> wishes(const Request& request, const Pool& pool) const override {
    std::vector<size_t> order(pool.heads.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const auto retrieved = [&](size_t at) { return request.profile->share_above(pool.heads[at], threshold_); };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return retrieved(a) > retrieved(b); });
    const auto mean = static_cast<double>(pool.total) / static_cast<double>(pool.heads.size());
    std::vector<double> wishes;
    for (const uint32_t head : pool.heads) wishes.push_back(std::min({1.0 * local_, mean, 1.0 * request.have[head]}));
    double left = static_cast<double>(pool.total) - std::accumulate(wishes.begin(), wishes.end(), 0.0);
    for (const size_t at : order) {
      const double more = std::clamp(request.have[pool.heads[at]] - wishes[at], 0.0, std::max(left, 0.0));
      wishes[at] += more;
      left -= more;
    }
    return wishes;
  }

 private:
  uint32_t local_ = 128;
  double threshold_ = 0.02;
};

}  // namespace

std::unique_ptr<HeadBudget> make_duo() { return std::make_unique<Duo>(); }

}  // namespace kvmerger::budget
