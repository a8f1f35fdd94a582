// The table of ways to share rows out over heads.
#include "budget/budget.h"
#include "core/table.h"

namespace kvmerger::budget {

std::unique_ptr<HeadBudget> make_uniform();

namespace {

constexpr Entry kBudgets[] = {
    {"uniform", "the same number of rows in every head", "-", make_uniform},
};

}  // namespace

std::span<const Entry> all() { return kBudgets; }

std::unique_ptr<HeadBudget> make(const std::string& spec) { return make_from_table("head budget", all(), spec); }

}  // namespace kvmerger::budget
