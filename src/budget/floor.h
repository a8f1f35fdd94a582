// The fewest rows of a head when rows go by what recall needs: enough to go on with the text.
#pragma once

#include "budget/budget.h"

namespace kvmerger::budget {

// even * share^2 * min(n, sqrt(2048 n)) rows, at most equal shares: n is the mean of the rows the heads of the pool
// have, share what the total leaves of them. Up to 2,048 tokens that is even * share of equal rows; beyond, the need of
// heads that only look around grows slower than the text. The tighter the budget, the more recall needs the rows.
double floor_rows(const Request& request, const Pool& pool, double even);

}  // namespace kvmerger::budget
