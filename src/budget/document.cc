// Rows by what this very text needs (KVzip, arXiv 2505.23416): the rows that got the most attention while the text was
// repeated, of all layers and heads together.
#include <algorithm>
#include <limits>

#include "budget/budget.h"
#include "budget/by_score.h"
#include "budget/floor.h"

namespace kvmerger::budget {
namespace {

class Document final : public HeadBudget {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.real("even", even_, 0, 100,
                 "floor: this times the share that stays, of equal rows; less in texts beyond 2,048 tokens");
    visitor.whole("least", least_, 1, 65536, "rows that every head keeps in any case");
  }
  Scores scores() const override { return Scores::kReconstruction; }

 protected:
  std::vector<double> wishes(const Request& request, const Pool& pool) const override {
    std::vector<const std::vector<float>*> scores;
    for (const uint32_t head : pool.heads) scores.push_back(&request.scores[head]);
    const double equal = static_cast<double>(pool.total) / static_cast<double>(pool.heads.size());
    const double floor = std::max(floor_rows(request, pool, even_), double{1.0 * least_});
    const auto least = static_cast<uint32_t>(std::min(floor, equal));
    std::vector<double> wishes;
    for (const uint64_t rows : best_rows(scores, pool.total, least)) wishes.push_back(static_cast<double>(rows));
    return wishes;
  }

 private:
  double even_ = 1.0;
  uint32_t least_ = 40;
};

}  // namespace

std::unique_ptr<HeadBudget> make_document() { return std::make_unique<Document>(); }

}  // namespace kvmerger::budget
