// Base of the methods that choose rows as H2O does, with sinks, and then fold each dropped row into the kept row with
// the most similar key. They differ in which rows they fold, and in the weights.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/policy.h"
#include "policy/score_policy.h"

namespace kvmerger::policy {

// A dropped row and the kept row that is nearest to it.
struct Match {
  uint32_t row, into;  // old rows
  float cosine;        // of their keys
};

// For each dropped row, ascending: its match among `receivers` (strictly increasing rows), none if there are none. The
// cosine is 0 where a key is 0; of equals the first receiver wins. Costs dropped x receivers x head_dim.
std::vector<Match> nearest(const kv::Rows& key, std::span<const uint32_t> dropped, std::span<const uint32_t> receivers);

class NearestMerge : public Policy {
 public:
  void options(OptionVisitor& visitor) override;
  Needs needs() const override { return {.attn_sum = true}; }
  std::vector<float> row_scores(const kv::HeadView& head, uint32_t rows) const final;

 protected:
  // What becomes of a kept row: weights of itself and of the rows that join it, for their keys and values alike.
  struct Weights {
    float self;
    std::vector<float> joined;  // one per cosine
  };

  // The matches that merge; the other dropped rows are lost.
  virtual std::vector<Match> chosen(std::vector<Match> matches) const { return matches; }
  virtual Weights weights(std::span<const float> cosines) const = 0;

  kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t rows) const final;

 private:
  Protection protection(uint32_t rows) const;
  // Appends old row `row` with the rows that join it.
  void fold(const kv::HeadView& head, uint32_t row, std::span<const Match> joining, kv::HeadPlan& plan) const;

  double recent_ = 0.5;
  uint32_t sinks_ = 4;
  bool merge_ = true;
};

}  // namespace kvmerger::policy
