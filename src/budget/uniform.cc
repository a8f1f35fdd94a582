// The same number of rows in every head.
#include "budget/budget.h"

namespace kvmerger::budget {
namespace {

class Uniform final : public HeadBudget {
 protected:
  std::vector<double> wishes(const Request&, const Pool& pool) const override {
    return std::vector<double>(pool.heads.size(), 1.0);
  }
};

}  // namespace

std::unique_ptr<HeadBudget> make_uniform() { return std::make_unique<Uniform>(); }

}  // namespace kvmerger::budget
