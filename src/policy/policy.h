// A policy decides which rows survive and what they are made of: view -> plan, a pure function.
// It never sees the store, the model or another call's state.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/options.h"
#include "kv/plan.h"
#include "kv/views.h"

namespace kvmerger::policy {

// What the attention port must record; nothing unasked is computed.
struct Needs {
  bool attn_sum = false;
  uint32_t window = 0;          // attn_win over this many last queries of the prompt; 0: not needed
  bool reconstruction = false;  // attn_max: the text is repeated behind itself once, over the full cache (KVzip)
  uint32_t queries = 0;         // reference queries of each query head

  bool any_attention() const { return attn_sum || window > 0; }  // from the queries of the prompt
};

class Policy {
 public:
  virtual ~Policy() = default;

  virtual void options(OptionVisitor&) {}
  virtual Needs needs() const { return {}; }
  // Layers whose rows the method leaves alone. They count in the budget: the other layers get less.
  virtual bool keeps_whole(uint32_t /*layer*/, uint32_t /*layers*/) const { return false; }
  // False only for the full cache, which keeps every row and is never asked for fewer.
  virtual bool compresses() const { return true; }
  // True when the method, as its options stand, can choose the number of rows itself.
  virtual bool sizes_itself() const { return false; }

  virtual bool has_row_scores() const { return false; }
  // [n] a score per row, larger = keep, comparable across heads, for budgets that share rows out by it; empty: the
  // method has none. Rows it would keep whatever their score, of `rows` for each head, have infinity.
  virtual std::vector<float> row_scores(const kv::HeadView& /*head*/, uint32_t /*rows*/) const { return {}; }

  // rows: the most rows each head may keep (>= 1), one per head; empty: the method chooses (only if sizes_itself()) and
  // leaves its whole layers alone. Heads that fit are kept as they are. Validates the result; throws Error when the
  // method broke its contract or the view lacks a statistic it needs.
  kv::LayerPlan plan(const kv::LayerView& view, std::span<const uint32_t> rows) const;

 protected:
  // Throws Error when the view lacks a statistic that `needs` asks for. A cache from a snapshot holds only those that
  // its writer asked for.
  static void check_statistics(const kv::HeadView& head, const Needs& needs);

  static constexpr uint32_t kOwnChoice = UINT32_MAX;  // rows of plan_head when the method chooses

  // Override one of the two. plan_head is called only for heads with more rows than allowed, or with kOwnChoice.
  virtual kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t rows) const;
  // For methods whose heads share one decision; some may fit. The default plans each head by itself.
  virtual kv::LayerPlan plan_layer(const kv::LayerView& view, std::span<const uint32_t> rows) const;
};

// One row of the table: all that lists, documents and tests know of a method.
struct Entry {
  const char* name;
  const char* line;    // what it does, in one line
  const char* source;  // paper or code
  std::unique_ptr<Policy> (*make)();
};

std::span<const Entry> all();  // policy/all.cc

// Makes a policy from `name` or `name:key=value,...`. Throws UsageError on unknown names and keys, listing the known.
std::unique_ptr<Policy> make(const std::string& spec);

}  // namespace kvmerger::policy
