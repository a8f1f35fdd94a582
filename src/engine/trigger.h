// When compaction is due. Apart from policies and compactor, so that new moments (between prefill chunks, while
// generating) are added here alone.
#pragma once

#include <span>
#include <string>

namespace kvmerger::engine {

// Something has just happened to a session.
enum class Moment { kPrefillChunk, kPrefillEnd, kToken };

class Trigger {
 public:
  virtual ~Trigger() = default;
  virtual bool due(Moment moment) const = 0;
};

struct TriggerEntry {
  const char* name;
  const char* line;
  const Trigger* trigger;
};

std::span<const TriggerEntry> triggers();
// Row of the table by name (--kv-when). Throws UsageError listing the known ones.
const Trigger& find_trigger(const std::string& name);

}  // namespace kvmerger::engine
