#include "fit/fit.h"

#include "core/error.h"

namespace kvmerger::fit {

kv::LayerPlan Fit::fit(const kv::LayerView& view, kv::LayerPlan plan) const {
  if (queries() == 0) return plan;
  KVM_CHECK(plan.size() == view.heads.size());
  for (size_t index = 0; index < plan.size(); ++index) {
    const kv::HeadView& head = view.heads[index];
    if (is_identity(plan[index], head)) continue;
    if (head.query.count == 0) {
      throw Error(cat("this cache was made without reference queries, which the fit needs; read the document again ",
                      "with this fit, or use --kv-fit none"));
    }
    // Of a text of a few tokens: too few to fit by some and to judge by others.
    if (head.query.count >= 4) fit_head(head, plan[index]);
  }
  return plan;
}

void Fit::fit_head(const kv::HeadView&, kv::HeadPlan&) const { KVM_CHECK(!"a fit with queries overrides fit_head"); }

}  // namespace kvmerger::fit
