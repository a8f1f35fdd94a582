// No correction: rows stay as the policy made them.
#include "fit/fit.h"

namespace kvmerger::fit {
namespace {

class None final : public Fit {};

}  // namespace

std::unique_ptr<Fit> make_none() { return std::make_unique<None>(); }

}  // namespace kvmerger::fit
