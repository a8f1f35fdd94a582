// TOVA (arXiv 2401.06104): the rows that the last query looks at, averaged over all heads of the layer, so that a layer
// keeps one set of rows. The authors drop the newest row too when it is the least attended; here it always stays.
//
// One order of rows for the layer needs heads that hold the same tokens; after a compaction that dropped different rows
// of different heads, each head goes by itself. A budget may cut the heads of a layer at different numbers of rows.
#include <algorithm>

#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

bool fits(const kv::HeadView& head, uint32_t limit) { return head.rows() <= limit; }

bool same_tokens(const kv::LayerView& view) {
  return std::ranges::all_of(view.heads,
                             [&](const auto& head) { return std::ranges::equal(head.pos, view.heads[0].pos); });
}

class Tova final : public ScorePolicy {
 public:
  Needs needs() const override { return {.window = 1}; }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override {
    return {head.attn_win.begin(), head.attn_win.end()};
  }

  kv::LayerPlan plan_layer(const kv::LayerView& view, std::span<const uint32_t> rows) const override {
    if (std::ranges::equal(view.heads, rows, fits) || !same_tokens(view)) return ScorePolicy::plan_layer(view, rows);
    const std::vector<float> scores = layer_scores(view);
    kv::LayerPlan plan;
    for (size_t index = 0; index < view.heads.size(); ++index) {
      const kv::HeadView& head = view.heads[index];
      const bool whole = fits(head, rows[index]);
      plan.push_back(whole ? kv::keep_all(head) : kv::keep_rows(head, top_rows(scores, rows[index])));
    }
    return plan;
  }

 private:
  // [n] sum over the heads, which ranks as their mean does; the newest row above all.
  std::vector<float> layer_scores(const kv::LayerView& view) const {
    std::vector<double> sums(view.heads[0].rows());
    for (const kv::HeadView& head : view.heads) {
      const std::vector<float> scores = row_scores(head, 1);
      std::ranges::transform(sums, scores, sums.begin(), [](double sum, float score) { return sum + double{score}; });
    }
    std::vector<float> scores;
    for (double sum : sums) scores.push_back(static_cast<float>(sum));
    return scores;
  }
};

}  // namespace

std::unique_ptr<Policy> make_tova() { return std::make_unique<Tova>(); }

}  // namespace kvmerger::policy
