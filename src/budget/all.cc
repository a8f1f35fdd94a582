// The table of ways to share rows out over heads.
#include "budget/budget.h"
#include "core/table.h"

namespace kvmerger::budget {

std::unique_ptr<HeadBudget> make_uniform();
std::unique_ptr<HeadBudget> make_pyramid();
std::unique_ptr<HeadBudget> make_ada();
std::unique_ptr<HeadBudget> make_by_profile();
std::unique_ptr<HeadBudget> make_document();
std::unique_ptr<HeadBudget> make_duo();

namespace {

constexpr Entry kBudgets[] = {
    {"uniform", "the same number of rows in every head", "-", make_uniform},
    {"pyramid", "fewer rows in later layers", "arXiv 2406.02069", make_pyramid},
    {"ada", "the best rows of each layer, by the policy's scores for this text", "arXiv 2407.11550", make_ada},
    {"profile", "as the model's heads need them on other texts (kvmerger calibrate)", "docs/methods.md",
     make_by_profile},
    {"document", "the rows of the whole model that are read when this text is repeated (a second prefill)",
     "arXiv 2505.23416", make_document},
    {"duo", "retrieval heads whole, the others the ends of the text, by the profile", "arXiv 2410.10819", make_duo},
};

}  // namespace

std::span<const Entry> all() { return kBudgets; }

std::unique_ptr<HeadBudget> make(const std::string& spec) { return make_from_table("head budget", all(), spec); }

}  // namespace kvmerger::budget
