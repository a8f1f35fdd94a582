// KeyDiff (arXiv 2504.15364): rows stay whose keys point least in the direction that all keys share. The authors work
// in blocks while the prompt is read; here all rows are compared at once, or what is left of them in a stream.
#include <cmath>

#include "policy/score_policy.h"
#include "policy/vectors.h"

namespace kvmerger::policy {
namespace {

double dot(std::span<const float> key, std::span<const double> other) {
  double sum = 0.0;
  for (size_t at = 0; at < key.size(); ++at) sum += double{key[at]} * other[at];
  return sum;
}

class KeyDiff final : public ScorePolicy {
 protected:
  // The length of the anchor changes no ranking, but with it scores are cosines, comparable across heads.
  std::vector<float> score(const kv::HeadView& head) const override {
    std::vector<double> norms, anchor(head.key.dim);  // [n], [head_dim] sum of the directions of all keys
    for (uint32_t row = 0; row < head.rows(); ++row) {
      norms.push_back(std::sqrt(square(head.key[row])));
      for (uint32_t at = 0; at < head.key.dim && norms[row] > 0.0; ++at) {
        anchor[at] += double{head.key[row][at]} / norms[row];
      }
    }
    double anchor_square = 0.0;
    for (const double value : anchor) anchor_square += value * value;
    std::vector<float> scores;
    for (uint32_t row = 0; row < head.rows(); ++row) {
      const double lengths = norms[row] * std::sqrt(anchor_square);
      scores.push_back(lengths > 0.0 ? static_cast<float>(-dot(head.key[row], anchor) / lengths) : 0.0F);
    }
    return scores;
  }
};

}  // namespace

std::unique_ptr<Policy> make_keydiff() { return std::make_unique<KeyDiff>(); }

}  // namespace kvmerger::policy
