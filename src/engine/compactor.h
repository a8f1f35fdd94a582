// Compaction of a store: budget, policy, fit and apply, layer by layer in parallel. Stateless between runs; runs
// between graph evaluations, never inside one. When it is due is not decided here (trigger.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "budget/budget.h"
#include "fit/fit.h"
#include "kv/store.h"
#include "policy/policy.h"

namespace kvmerger::engine {

// What the user asked for, as spec strings.
struct CompactionSpec {
  std::string policy = "none", heads = "uniform", fit = "none";
  std::string budget;  // empty: none given
};

struct CompactionReport {
  CompactionSpec spec;
  uint64_t rows_before = 0, rows_after = 0;
  size_t bytes_before = 0, bytes_after = 0;
  double seconds = 0.0;
  std::vector<uint32_t> rows;  // [layers * heads] after
  std::string note;            // what the user should know, or empty
};

// What serves both.
policy::Needs all_of(const policy::Needs& left, const policy::Needs& right);

class Compactor {
 public:
  // Throws UsageError on unknown names, keys and values, and when the policy needs a budget and has none.
  explicit Compactor(const CompactionSpec& spec);

  const CompactionSpec& spec() const { return spec_; }
  bool active() const { return policy_->compresses(); }
  policy::Needs needs() const;

  // Replaces the rows of every layer by those of its plan. Throws Error when the plan cannot be made or memory does not
  // suffice; layers done before stay done, each is whole.
  CompactionReport run(kv::Store& store, uint32_t threads) const;

 private:
  std::vector<uint32_t> share_out(const kv::Store& store, std::string& note) const;
  // rows: [layers * heads] allowed; empty: the policy chooses.
  kv::LayerPlan plan(const kv::LayerView& view, const std::vector<uint32_t>& rows) const;
  void compact(kv::Store& store, const std::vector<uint32_t>& rows, uint32_t threads) const;

  CompactionSpec spec_;
  std::unique_ptr<policy::Policy> policy_;
  std::unique_ptr<budget::HeadBudget> heads_;
  std::unique_ptr<fit::Fit> fit_;
  std::optional<budget::Size> size_;
};

}  // namespace kvmerger::engine
