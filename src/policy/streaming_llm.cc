// StreamingLLM (arXiv 2309.17453): the first rows and the newest. Positions stay; the original renumbers them.
#include <numeric>

#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

class StreamingLlm final : public ScorePolicy {
 public:
  void options(OptionVisitor& visitor) override { visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay"); }

 protected:
  std::vector<float> score(const kv::HeadView& head) const override {
    std::vector<float> age(head.rows());
    std::iota(age.begin(), age.end(), 0.0F);
    return age;
  }
  Protection protection(uint32_t) const override { return {sinks_, 1}; }

 private:
  uint32_t sinks_ = 4;
};

}  // namespace

std::unique_ptr<ScorePolicy> make_streaming_llm() { return std::make_unique<StreamingLlm>(); }

}  // namespace kvmerger::policy
