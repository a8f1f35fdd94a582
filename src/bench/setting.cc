#include "bench/setting.h"

#include <algorithm>
#include <tuple>

#include "core/error.h"
#include "engine/methods.h"

namespace kvmerger::bench {
namespace {

using Texts = std::vector<std::string>;

// Calls with each value, or once with nothing.
template <typename Work>
void each_or_nothing(const Texts& values, const Work& work) {
  if (values.empty()) work("");
  for (const std::string& value : values) work(value);
}

bool same(const Method& left, const Method& right) {
  const auto parts = [](const Method& m) {
    return std::tie(m.spec.policy, m.spec.heads, m.spec.fit, m.spec.budget, m.when);
  };
  return parts(left) == parts(right);
}

// Every combination of budgets, heads, fits and moments with one method.
void add_method(const MethodLists& lists, const std::string& name, std::vector<Method>& all) {
  const auto add = [&](const Method& method) {
    const engine::Compactor compactor(method.spec);
    const engine::Keeper checked(compactor, engine::parse_moments(method.when));
    if (std::ranges::none_of(all, [&](const Method& other) { return same(method, other); })) all.push_back(method);
  };
  Method method{name, engine::method_spec(name)};
  if (method.spec.policy == "none") return add(method);
  const auto with_moments = [&] {
    for (const std::string& when : lists.whens) add({method.name, method.spec, when});
  };
  each_or_nothing(lists.budgets, [&](const std::string& budget) {
    method.spec.budget = budget;
    each_or_nothing(lists.heads, [&](const std::string& heads) {
      if (!heads.empty()) method.spec.heads = heads;
      each_or_nothing(lists.fits, [&](const std::string& fit) {
        if (!fit.empty()) method.spec.fit = fit;
        with_moments();
      });
    });
  });
}

// Budgets and moments have no part in the full cache; without any other method they are a mistake.
void check_unused(const MethodLists& lists) {
  engine::CompactionSpec spec;
  if (!lists.budgets.empty()) spec.budget = lists.budgets.front();
  const engine::Compactor compactor(spec);
  for (const std::string& when : lists.whens) const engine::Keeper checked(compactor, engine::parse_moments(when));
}

}  // namespace

std::vector<Method> all_methods(const MethodLists& lists) {
  Texts names = lists.methods;
  if (names.empty()) names = {lists.budgets.empty() ? "none" : "default"};
  std::vector<Method> all;
  for (const std::string& name : names) add_method(lists, name, all);
  const bool full_only = std::ranges::all_of(all, [](const Method& method) { return method.spec.policy == "none"; });
  if (full_only) check_unused(lists);
  return all;
}

std::vector<Setting> all_settings(const SettingLists& lists) {
  std::vector<Setting> all;
  for (const uint32_t threads : lists.threads) {
    for (const uint32_t batch : lists.batches) {
      for (const kernels::RowType key : lists.key_types) {
        for (const kernels::RowType value : lists.value_types) all.push_back({threads, batch, key, value});
      }
    }
  }
  return all;
}

std::string name_of(const Test& test) {
  const std::string what = test.generate > 0 ? cat("tg", test.generate) : cat("pp", test.prompt);
  return test.depth > 0 ? cat(what, " @ d", test.depth) : what;
}

}  // namespace kvmerger::bench
