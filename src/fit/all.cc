// The table of corrections.
#include "core/table.h"
#include "fit/fit.h"

namespace kvmerger::fit {

std::unique_ptr<Fit> make_none();

namespace {

constexpr Entry kFits[] = {
    {"none", "no correction: rows stay as the policy made them", "-", make_none},
};

}  // namespace

std::span<const Entry> all() { return kFits; }

std::unique_ptr<Fit> make(const std::string& spec) { return make_from_table("fit", all(), spec); }

}  // namespace kvmerger::fit
