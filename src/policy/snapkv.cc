// SnapKV (arXiv 2404.14469): attention from the last queries of the prompt, pooled over neighbours so that hits keep
// their surroundings; the rows of those queries stay. Only rows older than the window are pooled, as by the authors.
#include <algorithm>

#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

class SnapKv final : public ScorePolicy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.whole("window", window_, 1, 4096, "last queries of the prompt that vote; as many newest rows stay");
    visitor.choice("kernel", kernel_, {"1", "3", "5", "7", "9", "11", "13", "15"}, "rows pooled, centred");
    visitor.choice("pool", pool_, {"avg", "max"}, "how; avg counts missing rows at the ends as 0 (torch's avg_pool1d)");
  }
  Needs needs() const override { return {.window = window_}; }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override {
    std::vector<float> scores(head.rows());
    const uint32_t older = head.rows() - std::min(window_, head.rows());
    const uint32_t width = static_cast<uint32_t>(std::stoul(kernel_)), reach = width / 2;
    for (uint32_t row = 0; row < older; ++row) {
      const uint32_t begin = row - std::min(row, reach), end = std::min(older, row + reach + 1);
      const auto around = head.attn_win.subspan(begin, end - begin);
      scores[row] = pool_ == "max" ? std::ranges::max(around) : sum(around) / static_cast<float>(width);
    }
    return scores;
  }
  Protection protection(uint32_t) const override { return {0, window_}; }

 private:
  static float sum(std::span<const float> values) {
    double total = 0.0;
    for (float value : values) total += double{value};
    return static_cast<float>(total);
  }

  uint32_t window_ = 32;
  std::string kernel_ = "7", pool_ = "avg";
};

}  // namespace

std::unique_ptr<Policy> make_snapkv() { return std::make_unique<SnapKv>(); }

}  // namespace kvmerger::policy
