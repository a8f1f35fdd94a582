// PyramidKV (arXiv 2406.02069): rows fall linearly with depth. With C rows per head on average and w for the window,
// the last layer gets (C - w) / beta, the first 2 (C - w) less that, and each w besides.
#include <algorithm>

#include "budget/budget.h"

namespace kvmerger::budget {
namespace {

class Pyramid final : public HeadBudget {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.real("beta", beta_, 1, 1e6, "the last layer gets the mean over this");
    visitor.whole("window", window_, 0, 4096, "rows that every head gets besides");
  }

 protected:
  std::vector<double> wishes(const Request& request, const Pool& pool) const override {
    const double mean = static_cast<double>(pool.total) / static_cast<double>(pool.heads.size());
    const double window = std::min(double{1.0 * window_}, mean), shared = mean - window;
    const double last = shared / beta_, first = 2 * shared - last;
    const double steps = std::max(1U, request.layers - 1);
    std::vector<double> wishes;
    for (const uint32_t head : pool.heads) {
      const uint32_t layer = head / request.heads;
      wishes.push_back(window + first - layer * (first - last) / steps);
    }
    return wishes;
  }

 private:
  double beta_ = 20;
  uint32_t window_ = 32;
};

}  // namespace

std::unique_ptr<HeadBudget> make_pyramid() { return std::make_unique<Pyramid>(); }

}  // namespace kvmerger::budget
