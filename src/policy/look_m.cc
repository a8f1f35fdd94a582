// LOOK-M (arXiv 2406.18139) on a text without images, where its preference for text rows has nothing to choose: H2O
// with sinks, then every dropped row joins its nearest kept row. The weights are those of KVCache-Factory (similarity)
// or of the authors (pivot, average); their third kind, `weighted`, is the merge of D2O.
//
// Both let rows join the sinks and the newest row too, which here stay as they are.
#include <algorithm>

#include "policy/nearest_merge.h"

namespace kvmerger::policy {
namespace {

class LookM final : public NearestMerge {
 public:
  void options(OptionVisitor& visitor) override {
    NearestMerge::options(visitor);
    visitor.choice("weights", weights_, {"similarity", "pivot", "average"},
                   "of a dropped row before they are made to add to 1, with 1 for the kept row: (cosine + 1) / 2; as "
                   "the mean of both rows; 1");
  }

 protected:
  Weights weights(std::span<const float> cosines) const override {
    const auto count = static_cast<float>(cosines.size());
    if (weights_ == "pivot") return even((1.0F + 0.5F * count) / (1.0F + count), 0.5F / (1.0F + count), cosines.size());
    if (weights_ == "average") return even(1.0F / (1.0F + count), 1.0F / (1.0F + count), cosines.size());
    Weights made{1.0F, {}};
    double total = 1.0;
    for (const float cosine : cosines) {
      made.joined.push_back(std::max(0.5F * (cosine + 1.0F), 1e-6F));
      total += double{made.joined.back()};
    }
    made.self = static_cast<float>(1.0 / total);
    for (float& weight : made.joined) weight = static_cast<float>(double{weight} / total);
    return made;
  }

 private:
  static Weights even(float self, float joined, size_t count) { return {self, std::vector<float>(count, joined)}; }

  std::string weights_ = "similarity";
};

}  // namespace

std::unique_ptr<Policy> make_look_m() { return std::make_unique<LookM>(); }

}  // namespace kvmerger::policy
