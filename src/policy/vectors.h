// Small products of rows, in double precision.
#pragma once

#include <cstddef>
#include <span>

namespace kvmerger::policy {

inline double dot(std::span<const float> left, std::span<const float> right) {
  double sum = 0.0;
  for (size_t at = 0; at < left.size(); ++at) sum += double{left[at]} * double{right[at]};
  return sum;
}

inline double square(std::span<const float> row) { return dot(row, row); }

}  // namespace kvmerger::policy
