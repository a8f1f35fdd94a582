// Small measures and inputs that several tests share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "core/rng.h"

namespace kvmerger::test {

inline std::vector<int32_t> random_tokens(uint32_t count, uint32_t vocabulary, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> tokens;
  while (tokens.size() < count) tokens.push_back(static_cast<int32_t>(rng.below(vocabulary)));
  return tokens;
}

// Normalised mean square error; infinite when the sizes differ.
inline double nmse(std::span<const float> found, std::span<const float> expected) {
  if (found.size() != expected.size()) return INFINITY;
  double error = 0, power = 0;
  for (size_t index = 0; index < found.size(); ++index) {
    error += std::pow(double{found[index]} - double{expected[index]}, 2);
    power += std::pow(double{expected[index]}, 2);
  }
  return error / power;
}

// Share of rows [vocabulary] whose largest logit is at the same place.
inline double same_argmax(std::span<const float> a, std::span<const float> b, size_t vocabulary) {
  const auto top = [&](std::span<const float> logits, size_t row) {
    const auto from = logits.begin() + static_cast<std::ptrdiff_t>(row * vocabulary);
    return std::max_element(from, from + static_cast<std::ptrdiff_t>(vocabulary)) - from;
  };
  size_t same = 0;
  const size_t rows = a.size() / vocabulary;
  for (size_t row = 0; row < rows; ++row) same += top(a, row) == top(b, row);
  return static_cast<double>(same) / static_cast<double>(rows);
}

// -log of the probability that logits [vocabulary] give to a token, in nats.
inline double loss(std::span<const float> logits, int32_t token) {
  const double most = double{*std::max_element(logits.begin(), logits.end())};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - most);
  return std::log(sum) + most - double{logits[static_cast<size_t>(token)]};
}

}  // namespace kvmerger::test
