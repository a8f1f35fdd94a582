// H2O (arXiv 2306.14048): the newest rows, and of the others those that have received the most attention.
#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

class H2o final : public ScorePolicy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.real("recent", recent_, 0, 1, "share of the rows kept that goes to the newest");
    visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay");
  }
  Needs needs() const override { return {.attn_sum = true}; }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override {
    return {head.attn_sum.begin(), head.attn_sum.end()};
  }
  Protection protection(uint32_t rows) const override { return {sinks_, share_rows(recent_, rows)}; }

 private:
  double recent_ = 0.5;
  uint32_t sinks_ = 0;
};

}  // namespace

std::unique_ptr<ScorePolicy> make_h2o() { return std::make_unique<H2o>(); }

}  // namespace kvmerger::policy
