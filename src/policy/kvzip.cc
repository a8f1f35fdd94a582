// KVzip (arXiv 2505.23416): rows that some query looked at while the model repeated the text. The authors share the
// rows out over all layers and heads by this score, which is a budget here (heads=document).
#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

class KvZip final : public ScorePolicy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay");
    visitor.whole("recent", recent_, 1, 4096, "newest rows that stay; the authors protect none of the text");
  }
  Needs needs() const override { return {.reconstruction = true}; }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override {
    return {head.attn_max.begin(), head.attn_max.end()};
  }
  Protection protection(uint32_t) const override { return {sinks_, recent_}; }

 private:
  uint32_t sinks_ = 4, recent_ = 32;
};

}  // namespace

std::unique_ptr<Policy> make_kvzip() { return std::make_unique<KvZip>(); }

}  // namespace kvmerger::policy
