#include "fit/fit.h"

#include <utility>

#include "core/error.h"

namespace kvmerger::fit {

Fitted Fit::fit(const kv::LayerView& view, kv::LayerPlan plan) const {
  KVM_CHECK(plan.size() == view.heads.size());
  Fitted fitted{std::move(plan), {}};
  fitted.errors.resize(view.heads.size());
  for (size_t index = 0; index < view.heads.size() && queries() > 0; ++index) {
    const kv::HeadView& head = view.heads[index];
    if (is_identity(fitted.plan[index], head)) continue;
    if (head.query.count == 0) {
      throw Error(cat("this cache was made without reference queries, which the fit needs; read the document again ",
                      "with this fit, or use --kv-fit none"));
    }
    // Of a text of a few tokens: too few to fit by some and to judge by others.
    if (head.query.count >= 4) fitted.errors[index] = fit_head(head, fitted.plan[index]);
  }
  return fitted;
}

double Fit::fit_head(const kv::HeadView&, kv::HeadPlan&) const { throw Error("a fit with queries overrides fit_head"); }

}  // namespace kvmerger::fit
