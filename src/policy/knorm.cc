// Key norm (arXiv 2406.11430): rows with short keys stay, since those tend to be the most attended. A floor for others.
#include <cmath>

#include "policy/score_policy.h"
#include "policy/vectors.h"

namespace kvmerger::policy {
namespace {

class Knorm final : public ScorePolicy {
 protected:
  std::vector<float> score(const kv::HeadView& head) const override {
    std::vector<float> scores;
    for (uint32_t row = 0; row < head.rows(); ++row) {
      scores.push_back(static_cast<float>(-std::sqrt(square(head.key[row]))));
    }
    return scores;
  }
};

}  // namespace

std::unique_ptr<Policy> make_knorm() { return std::make_unique<Knorm>(); }

}  // namespace kvmerger::policy
