// Methods at budgets as the user names them, and which of them one reading of a text serves.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/compactor.h"

namespace kvmerger::eval {

struct Candidate {
  std::string name;  // as the user wrote the method
  engine::Compactor compactor;
};

// Every method (comma-separated) at every budget, each once; the full cache, policy none, has no budget. Throws
// UsageError on what is not known.
std::vector<Candidate> make_candidates(const std::string& methods, const std::vector<std::string>& budgets);

// Those that one reading can serve, together: a session records over one window of attention only.
using Candidates = std::vector<const Candidate*>;
std::vector<Candidates> groups(std::span<const Candidate* const> candidates);

// What has to be recorded for all of them.
policy::Needs needs_of(std::span<const Candidate* const> group);

}  // namespace kvmerger::eval
