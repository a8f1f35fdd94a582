#include "engine/catalog.h"

#include "budget/budget.h"
#include "core/error.h"
#include "engine/keeper.h"
#include "engine/methods.h"
#include "fit/fit.h"
#include "model/config.h"
#include "policy/policy.h"

namespace kvmerger::engine {
namespace {

std::string needs_text(const policy::Needs& needs) {
  std::string text;
  const auto add = [&](bool wanted, const std::string& what) {
    if (wanted) text += (text.empty() ? "" : ", ") + what;
  };
  add(needs.attn_sum, "attention sums of all queries");
  add(needs.window > 0, cat("attention of the last ", needs.window, " queries"));
  add(needs.reconstruction, "attention while the text is repeated");
  add(needs.queries > 0, cat(needs.queries, " reference queries"));
  return text.empty() ? "nothing" : text;
}

template <typename Entries>
CatalogAxis axis(const char* name, const char* flag, const Entries& entries) {
  CatalogAxis axis{name, flag, {}};
  for (const auto& entry : entries) {
    const auto object = entry.make();
    const auto options = describe_options([&](OptionVisitor& visitor) { object->options(visitor); });
    axis.entries.push_back({entry.name, entry.line, entry.source, "", options});
  }
  return axis;
}

}  // namespace

std::vector<CatalogAxis> catalog() {
  CatalogAxis policies = axis("policies", "--kv-policy", policy::all());
  for (size_t row = 0; row < policies.entries.size(); ++row) {
    policies.entries[row].needs = needs_text(policy::all()[row].make()->needs());
  }
  CatalogAxis moments{"moments", "--kv-when", {}};
  for (const MomentEntry& entry : engine::moments()) moments.entries.push_back({entry.name, entry.line, "", "", {}});
  CatalogAxis whole{"methods", "--kv-policy", {}};
  for (const Method& method : methods()) {
    whole.entries.push_back(
        {method.name,
         method.line,
         method.source,
         "",
         {{"policy", method.policy, "", ""}, {"heads", method.heads, "", ""}, {"fit", method.fit, "", ""}}});
  }
  CatalogAxis archs{"archs", "", {}};
  for (const model::Arch& arch : model::archs()) archs.entries.push_back({arch.name, arch.line, "", "", {}});
  return {std::move(whole),
          std::move(policies),
          axis("budgets", "--kv-heads", budget::all()),
          axis("fits", "--kv-fit", fit::all()),
          std::move(moments),
          std::move(archs)};
}

}  // namespace kvmerger::engine
