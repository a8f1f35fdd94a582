// D2O (arXiv 2406.13035), its choice and merging of rows; that it gives layers different budgets is left to budgets.
// Rows are chosen as by H2O with sinks. A dropped row joins its nearest kept row when it is similar enough to it.
//
// The threshold is an average that the authors move along from one compaction to the next, starting with the mean
// similarity of the first. A plan has no memory, so every compaction is a first one here. They also average the
// similarity over the heads of the layer before they compare it, which pairs unrelated rows; here each head goes by
// itself. They let rows join the sinks and the newest row too, which here stay as they are.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "policy/nearest_merge.h"

namespace kvmerger::policy {
namespace {

class D2o final : public NearestMerge {
 public:
  void options(OptionVisitor& visitor) override {
    NearestMerge::options(visitor);
    visitor.real_or_auto("threshold", threshold_, -1, 1,
                         "least cosine that merges; auto: the mean of the dropped rows to their nearest");
    visitor.choice("weights", weights_, {"cosine", "exp"},
                   "of a merged row: its cosine, with 1 for the kept row, over the number of rows (the authors' code); "
                   "or e^cosine, with e for the kept row, made to add to 1");
    visitor.choice("skip", skip_, {"none", "paper"}, "layers left whole: none, or 0, 1 and the last");
  }
  bool keeps_whole(uint32_t layer, uint32_t layers) const override {
    return skip_ == "paper" && (layer < 2 || layer + 1 == layers);
  }

 protected:
  std::vector<Match> chosen(std::vector<Match> matches) const override {
    const double least = threshold_ ? *threshold_ : mean(matches);
    std::erase_if(matches, [&](const Match& match) { return double{match.cosine} < least; });
    return matches;
  }

  Weights weights(std::span<const float> cosines) const override {
    const bool exponential = weights_ == "exp";
    const auto weight = [&](float cosine) { return exponential ? std::exp(double{cosine}) : double{cosine}; };
    const double self = weight(1.0F);
    double total = self;
    for (const float cosine : cosines) total += exponential ? weight(cosine) : 1.0;
    Weights made{static_cast<float>(self / total), {}};
    for (const float cosine : cosines) made.joined.push_back(static_cast<float>(weight(cosine) / total));
    return made;
  }

 private:
  static double mean(const std::vector<Match>& matches) {
    double sum = 0.0;
    for (const Match& match : matches) sum += double{match.cosine};
    return sum / static_cast<double>(std::max<size_t>(matches.size(), 1));
  }

  std::optional<double> threshold_;
  std::string weights_ = "cosine", skip_ = "none";
};

}  // namespace

std::unique_ptr<Policy> make_d2o() { return std::make_unique<D2o>(); }

}  // namespace kvmerger::policy
