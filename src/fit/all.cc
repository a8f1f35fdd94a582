// The table of corrections.
#include "core/table.h"
#include "fit/fit.h"

namespace kvmerger::fit {

std::unique_ptr<Fit> make_none();
std::unique_ptr<Fit> make_mass();
std::unique_ptr<Fit> make_least_squares();

namespace {

constexpr Entry kFits[] = {
    {"none", "no correction: rows stay as the policy made them", "-", make_none},
    {"mass", "biases that give reference queries the full head's attention mass", "arXiv 2602.16284", make_mass},
    {"ls", "biases and values that give reference queries the full head's output", "arXiv 2602.16284",
     make_least_squares},
};

}  // namespace

std::span<const Entry> all() { return kFits; }

std::unique_ptr<Fit> make(const std::string& spec) { return make_from_table("fit", all(), spec); }

}  // namespace kvmerger::fit
