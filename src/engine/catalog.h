// Everything selectable, for `kvmerger list`, documents and tests: the tables of all axes as plain text.
#pragma once

#include <string>
#include <vector>

#include "core/options.h"

namespace kvmerger::engine {

struct CatalogEntry {
  std::string name, line, source;
  std::string needs;  // what has to be recorded while reading the prompt, in words; policies only
  std::vector<OptionHelp> options;
};

struct CatalogAxis {
  std::string name;  // policies, budgets (over heads), fits, moments, archs
  std::string flag;  // where it is chosen; empty: by the model
  std::vector<CatalogEntry> entries;
};

std::vector<CatalogAxis> catalog();

}  // namespace kvmerger::engine
