#include "budget/floor.h"

#include <algorithm>
#include <cmath>

namespace kvmerger::budget {

double floor_rows(const Request& request, const Pool& pool, double even) {
  constexpr double kLength = 2048.0;
  double have = 0.0;
  for (const uint32_t head : pool.heads) have += request.have[head];
  if (have == 0.0) return 0.0;
  const auto total = static_cast<double>(pool.total), heads = static_cast<double>(pool.heads.size());
  const double share = total / have, length = have / heads;
  return std::min(total / heads, even * share * share * std::min(length, std::sqrt(kLength * length)));
}

}  // namespace kvmerger::budget
