#include "eval/candidates.h"

#include <algorithm>

#include "engine/methods.h"

namespace kvmerger::eval {
namespace {

bool together(const Candidate& left, const Candidate& right) {
  const uint32_t a = left.compactor.needs().window, b = right.compactor.needs().window;
  return a == b || a == 0 || b == 0;
}

}  // namespace

std::vector<Candidate> make_candidates(const std::string& methods, const std::vector<std::string>& budgets) {
  std::vector<Candidate> all;
  const std::vector<std::string> none{""};
  for (const std::string& method : engine::split_methods(methods)) {
    engine::CompactionSpec spec = engine::method_spec(method);
    const bool full = spec.policy == "none";
    for (const std::string& budget : full || budgets.empty() ? none : budgets) {
      spec.budget = budget;
      const auto same = [&](const Candidate& other) {
        return other.name == method && other.compactor.spec().budget == budget;
      };
      if (std::ranges::none_of(all, same)) all.push_back({method, engine::Compactor(spec)});
    }
  }
  return all;
}

std::vector<Candidates> groups(std::span<const Candidate* const> candidates) {
  std::vector<Candidates> groups;
  for (const Candidate* candidate : candidates) {
    const auto found = std::ranges::find_if(groups, [&](const Candidates& group) {
      return std::ranges::all_of(group, [&](const Candidate* member) { return together(*member, *candidate); });
    });
    if (found == groups.end()) {
      groups.push_back({candidate});
    } else {
      found->push_back(candidate);
    }
  }
  return groups;
}

policy::Needs needs_of(std::span<const Candidate* const> group) {
  policy::Needs needs;
  for (const Candidate* candidate : group) needs = engine::all_of(needs, candidate->compactor.needs());
  return needs;
}

}  // namespace kvmerger::eval
