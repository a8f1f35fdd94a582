// Rows by what the model's heads need on other texts: one threshold on the score for all heads, found so that the rows
// above it add up to the total (water-filling), times a boost, and a floor. The score says what recall of the text
// needs, which few heads serve; the boost leaves those heads, nearly, all their rows. The others need rows to go on
// with the text: the more of all rows may stay, the higher the floor.
#include <algorithm>
#include <cmath>

#include "budget/floor.h"

namespace kvmerger::budget {
namespace {

constexpr int kHalvings = 100;  // of the range of the threshold's logarithm

class ByProfile final : public HeadBudget {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.real("even", even_, 0, 100,
                 "floor: this times the share that stays, of equal rows; less in texts beyond 2,048 tokens");
    visitor.real(
        "boost", boost_, 1, 100,
        "this times the share of rows that the profile asks for; one row lost in a head that recalls costs much");
    visitor.whole("ends", ends_, 0, 65536, "first and newest rows, which the profile says nothing of");
  }
  bool needs_profile() const override { return true; }

 protected:
  std::vector<double> wishes(const Request& request, const Pool& pool) const override {
    const auto total = static_cast<double>(pool.total);
    const double mean = total / static_cast<double>(pool.heads.size()), ends = std::min(double{1.0 * ends_}, mean);
    const double floor = floor_rows(request, pool, even_);
    std::vector<double> wishes(pool.heads.size());
    const auto above = [&](double log_threshold) {
      double sum = 0.0;
      for (size_t at = 0; at < wishes.size(); ++at) {
        const double have = request.have[pool.heads[at]];
        const double share = request.profile->share_above(pool.heads[at], std::exp(log_threshold));
        sum += wishes[at] =
            std::clamp(ends + std::min(1.0, boost_ * share) * (have - ends), std::min(floor, have), have);
      }
      return sum;
    };
    double low = std::log(1e-10), high = std::log(2.0);  // all rows, none
    for (int halving = 0; halving < kHalvings; ++halving) {
      const double middle = (low + high) / 2;
      (above(middle) > total ? low : high) = middle;
    }
    above(high);
    return wishes;
  }

 private:
  double even_ = 1.25, boost_ = 1.3;
  uint32_t ends_ = 36;
};

}  // namespace

std::unique_ptr<HeadBudget> make_by_profile() { return std::make_unique<ByProfile>(); }

}  // namespace kvmerger::budget
