// Compaction of a store: budget, policy, fit and apply, layer by layer in parallel. Stateless between runs; runs
// between graph evaluations, never inside one. When it is due is not decided here (keeper.h).
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

// [layers * heads] reference queries of a KV head, each [r, head_dim]; empty: none.
using QueryRows = std::vector<std::vector<float>>;

// What a compaction knows beside the rows.
struct CompactionInput {
  uint32_t tokens = 0;  // that the cache stands for: a share is of them
  QueryRows queries;
  uint32_t query_heads = 1;  // per KV head
};

struct CompactionReport {
  CompactionSpec spec;
  uint64_t rows_before = 0, rows_after = 0;
  size_t bytes_before = 0, bytes_after = 0;
  double seconds = 0.0;                 // all of it
  double reconstruction_seconds = 0.0;  // of these, repeating the text
  uint32_t runs = 1;                    // compactions that this stands for
  std::vector<uint32_t> rows;           // [layers * heads] after
  // [layers * heads] predicted relative error of the attention output, on reference queries that no fit has seen; empty
  // when there are none.
  std::vector<double> errors;
  double error = 0.0;  // root mean square of errors
  std::string chosen;  // the budget that an error budget came to, e.g. `27%`; empty with any other
  std::string note;    // what the user should know, or empty
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
  CompactionReport run(kv::Store& store, const CompactionInput& input, uint32_t threads) const;

  // The errors that run would predict ([layers * heads], empty without reference queries); nothing changes.
  std::vector<double> predict(kv::Store& store, const CompactionInput& input, uint32_t threads) const;

  // The plan that run would make for a layer; nothing changes.
  kv::LayerPlan plan(kv::Store& store, const CompactionInput& input, uint32_t threads, uint32_t layer) const;

  // The budget is an error to stay within: each run looks for the smallest share of the rows that does.
  bool by_error() const { return size_ && size_->unit == budget::Size::Unit::kError; }
  // Rows in all that the budget allows for a text of so many tokens; UINT64_MAX without a budget, and with an error
  // budget, which only a run turns into rows.
  uint64_t allowed(const kv::StoreShape& shape, uint32_t tokens) const;

  bool needs_profile() const { return heads_->needs_profile(); }
  void use_profile(std::shared_ptr<const budget::Profile> profile) { profile_ = std::move(profile); }

 private:
  // One run's work.
  class Run;

  CompactionSpec spec_;
  std::unique_ptr<policy::Policy> policy_;
  std::unique_ptr<budget::HeadBudget> heads_;
  std::unique_ptr<fit::Fit> fit_;
  std::optional<budget::Size> size_;
  std::shared_ptr<const budget::Profile> profile_;
};

}  // namespace kvmerger::engine
