// Base of the methods that only score rows: the best rows stay, sinks and recent rows whatever their score. Everything
// else about such a plan is the same for all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "policy/policy.h"

namespace kvmerger::policy {

// Rows that stay whatever their score. The newest row always does.
struct Protection {
  uint32_t sinks = 0, recent = 1;
};

class ScorePolicy : public Policy {
 public:
  // The rows that stay, ascending: `rows` of them, fewer than the head has.
  std::vector<uint32_t> kept_rows(const kv::HeadView& head, uint32_t rows) const;
  bool has_row_scores() const final { return true; }
  std::vector<float> row_scores(const kv::HeadView& head, uint32_t rows) const final;

 protected:
  virtual std::vector<float> score(const kv::HeadView& head) const = 0;  // [n] larger = keep
  virtual Protection protection(uint32_t /*rows*/) const { return {}; }

  kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t rows) const final;
};

// floor(share x count), with share taken to six decimals, in integers: the product of doubles may fall short.
uint32_t share_rows(double share, uint32_t count);

// What of `wanted` fits in `rows` (>= 1): the newest row before sinks before older recent rows.
Protection within(Protection wanted, uint32_t rows);

// Raises the protected of the rows above all others.
void protect(std::span<float> scores, Protection protection);

// Indices of the `count` highest scores, ascending; of equal scores the lower index wins.
std::vector<uint32_t> top_rows(std::span<const float> scores, uint32_t count);

// The methods that others build on.
std::unique_ptr<ScorePolicy> make_h2o();
std::unique_ptr<ScorePolicy> make_streaming_llm();

}  // namespace kvmerger::policy
