// Ada-KV (arXiv 2407.11550): the layers share alike; inside a layer the best rows of all heads stay, by the policy's
// scores for this text. Every head keeps a share alpha of what it would get if the heads shared alike as well.
#include <algorithm>

#include "budget/budget.h"
#include "budget/by_score.h"

namespace kvmerger::budget {
namespace {

class Ada final : public HeadBudget {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.real("alpha", alpha_, 0, 1, "share of equal rows that every head keeps");
  }
  Scores scores() const override { return Scores::kPolicy; }

 protected:
  std::vector<double> wishes(const Request& request, const Pool& pool) const override {
    const double per_head = static_cast<double>(pool.total) / static_cast<double>(pool.heads.size());
    std::vector<double> wishes;
    for (size_t at = 0; at < pool.heads.size(); at += request.heads) {
      std::vector<const std::vector<float>*> layer;
      for (size_t head = 0; head < request.heads; ++head) layer.push_back(&request.scores[pool.heads[at + head]]);
      const auto total = static_cast<uint64_t>(per_head * request.heads);
      const std::vector<uint64_t> rows = best_rows(layer, total, static_cast<uint32_t>(per_head * alpha_));
      for (const uint64_t count : rows) wishes.push_back(static_cast<double>(count));
    }
    return wishes;
  }

 private:
  double alpha_ = 0.2;
};

}  // namespace

std::unique_ptr<HeadBudget> make_ada() { return std::make_unique<Ada>(); }

}  // namespace kvmerger::budget
