// Keeps a session within its budget: when compaction is due, apart from what it does (compactor.h).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "engine/compactor.h"
#include "engine/session.h"

namespace kvmerger::engine {

// When compaction may run; any of them together.
struct Moments {
  bool prefill = false, stream = false, decode = false;
};

struct MomentEntry {
  const char* name;
  const char* line;
  bool Moments::* member;
};
std::span<const MomentEntry> moments();

// `prefill`, `stream+decode`, `stream,decode`, ... Throws UsageError on unknown names, listing the known, and on none.
Moments parse_moments(const std::string& text);

class Keeper {
 public:
  // What does not say how many rows to keep to (a method that chooses itself, an error budget) can only run after
  // prefill: throws UsageError otherwise.
  Keeper(const Compactor& compactor, Moments moments);

  // Reads what is to be compacted, in chunks when streaming: after each, the session is within the budget. Throws as
  // Session::extend and Compactor::run do; what was read and compacted before stays.
  void read(Session& session, std::span<const Token> tokens, const RunHooks& hooks);
  // Reads what comes between that and the answer, such as a question: nothing is compacted before the answer begins.
  void read_on(Session& session, std::span<const Token> tokens, const RunHooks& hooks) const;
  // Reads a generated token, and compacts when the rows are over the budget by kSlack a head.
  void add(Session& session, Token token, const RunHooks& hooks);

  // All compactions so far as one: rows and bytes before are those of the full text, times are added up. Empty: nothing
  // has been read.
  const std::optional<CompactionReport>& report() const { return report_; }

  Moments moments() const { return moments_; }

  // A batch that serves well when streaming: larger ones cost attention to more rows, smaller ones more compactions
  // (docs/performance.md).
  static constexpr uint32_t kStreamBatch = 1024;
  static constexpr uint32_t kSlack = 128;  // rows a head: compacting every token would cost more than it saves

 private:
  void compact(Session& session, const RunHooks& hooks);

  const Compactor& compactor_;
  const Moments moments_;
  std::optional<CompactionReport> report_;
};

}  // namespace kvmerger::engine
