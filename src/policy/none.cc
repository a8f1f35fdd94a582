// The full cache: every row stays. What all methods are compared with.
#include "core/error.h"
#include "policy/policy.h"

namespace kvmerger::policy {
namespace {

class None final : public Policy {
 public:
  bool compresses() const override { return false; }
  bool sizes_itself() const override { return true; }

 protected:
  kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t rows) const override {
    if (rows != kOwnChoice) throw Error("policy none keeps every row; choose another to hold fewer");
    return kv::keep_all(head);
  }
};

}  // namespace

std::unique_ptr<Policy> make_none() { return std::make_unique<None>(); }

}  // namespace kvmerger::policy
