// How far a model's predictions are from those it makes with the full cache. Natural logarithms; sums in double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/session.h"

namespace kvmerger::eval {

double log_sum_exp(std::span<const float> logits);
uint32_t argmax(std::span<const float> logits);  // the first of several equal ones
// -log of the probability of a token.
double nll(std::span<const float> logits, engine::Token token);

// Predictions behind each token of a text, as the full cache makes them.
class Predictions {
 public:
  void add(std::span<const float> logits);
  uint32_t size() const { return static_cast<uint32_t>(log_sums_.size()); }
  std::span<const float> logits(uint32_t index) const;
  double log_sum(uint32_t index) const { return log_sums_[index]; }

 private:
  std::vector<float> logits_;  // [size, vocabulary]
  std::vector<double> log_sums_;
};

// What another cache makes of the same tokens, against `full`: call add for each token in turn.
class Comparison {
 public:
  // tokens: those that were read; a token is predicted behind the one before it. Both must outlive the comparison.
  Comparison(const Predictions& full, std::span<const engine::Token> tokens) : full_(full), tokens_(tokens) {}
  void add(std::span<const float> logits);

  double kl() const { return kl_ / count_; }            // KL(full || this), mean over all tokens
  double dnll() const { return dnll_ / (count_ - 1); }  // NLL of the tokens from the second on, minus the full cache's
  double top1() const { return same_ / count_; }        // share of tokens behind which both think the same likeliest

 private:
  const Predictions& full_;
  std::span<const engine::Token> tokens_;
  double kl_ = 0, dnll_ = 0, same_ = 0, count_ = 0;
};

}  // namespace kvmerger::eval
