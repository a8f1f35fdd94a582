// Rows of the tables (policies, budgets, fits) by spec string. A row is a struct with name, make() and, in what make()
// returns, options(visitor).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/options.h"
#include "core/spec.h"

namespace kvmerger {

// Makes the row that `text` names and reads its options. kind: what the rows are, for messages. Throws UsageError on
// unknown names, keys and values, listing the known ones.
template <typename Entry>
auto make_from_table(std::string_view kind, std::span<const Entry> table, std::string_view text) {
  const Spec spec = parse_spec(text);
  std::string known;
  for (const Entry& entry : table) {
    if (spec.name == entry.name) {
      auto object = entry.make();
      read_options(spec, [&](OptionVisitor& visitor) { object->options(visitor); });
      return object;
    }
    known += cat(known.empty() ? "" : ", ", entry.name);
  }
  throw UsageError(cat("there is no ", kind, " '", spec.name, "'; known: ", known));
}

}  // namespace kvmerger
