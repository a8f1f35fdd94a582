#include "engine/trigger.h"

#include "core/error.h"

namespace kvmerger::engine {
namespace {

class AfterPrefill final : public Trigger {
 public:
  bool due(Moment moment) const override { return moment == Moment::kPrefillEnd; }
};

const AfterPrefill kAfterPrefill;
constexpr TriggerEntry kTriggers[] = {
    {"prefill", "once, after the document (without one: the prompt) has been read", &kAfterPrefill},
};

}  // namespace

std::span<const TriggerEntry> triggers() { return kTriggers; }

const Trigger& find_trigger(const std::string& name) {
  std::string known;
  for (const TriggerEntry& entry : kTriggers) {
    if (name == entry.name) return *entry.trigger;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw UsageError(cat("--kv-when '", name, "' is not known; known: ", known));
}

}  // namespace kvmerger::engine
