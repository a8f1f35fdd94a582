#include "eval/measures.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace kvmerger::eval {

double log_sum_exp(std::span<const float> logits) {
  const double most = double{*std::max_element(logits.begin(), logits.end())};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - most);
  return most + std::log(sum);
}

uint32_t argmax(std::span<const float> logits) {
  return static_cast<uint32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double nll(std::span<const float> logits, engine::Token token) {
  return log_sum_exp(logits) - double{logits[static_cast<size_t>(token)]};
}

void Predictions::add(std::span<const float> logits) {
  logits_.insert(logits_.end(), logits.begin(), logits.end());
  log_sums_.push_back(log_sum_exp(logits));
}

std::span<const float> Predictions::logits(uint32_t index) const {
  const size_t vocabulary = logits_.size() / log_sums_.size();
  return std::span(logits_).subspan(index * vocabulary, vocabulary);
}

void Comparison::add(std::span<const float> logits) {
  const auto index = static_cast<uint32_t>(count_);
  const std::span<const float> full = full_.logits(index);
  KVM_CHECK(index < full_.size() && full.size() == logits.size());
  const double full_sum = full_.log_sum(index), sum = log_sum_exp(logits);
  for (size_t token = 0; token < full.size(); ++token) {
    const double full_log = double{full[token]} - full_sum, log = double{logits[token]} - sum;
    kl_ += std::exp(full_log) * (full_log - log);
  }
  if (index + 1 < tokens_.size()) {
    const auto next = static_cast<size_t>(tokens_[index + 1]);
    dnll_ += (sum - double{logits[next]}) - (full_sum - double{full[next]});
  }
  same_ += argmax(logits) == argmax(full) ? 1 : 0;
  ++count_;
}

}  // namespace kvmerger::eval
