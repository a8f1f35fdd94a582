// kvmerger list: what can be chosen, from the tables themselves.
#include <cstdio>

#include "cli/commands.h"
#include "core/error.h"
#include "engine/catalog.h"

namespace kvmerger::cli {
namespace {

void print_entry(const engine::CatalogEntry& entry) {
  std::printf("  %-18s %s\n", entry.name.c_str(), entry.line.c_str());
  const auto detail = [](const char* what, const std::string& text) {
    if (!text.empty()) std::printf("  %-18s %s: %s\n", "", what, text.c_str());
  };
  detail("source", entry.source);
  detail("records", entry.needs);
  for (const OptionHelp& option : entry.options) {
    std::printf("  %-18s %s=%s", "", option.key.c_str(), option.value.c_str());
    if (!option.range.empty()) std::printf("  (%s) %s", option.range.c_str(), option.help.c_str());
    std::printf("\n");
  }
}

void print_axis(const engine::CatalogAxis& axis) {
  std::printf("%s", axis.name.c_str());
  if (!axis.flag.empty()) std::printf("  (%s name or name:key=value,...)", axis.flag.c_str());
  std::printf("\n");
  for (const engine::CatalogEntry& entry : axis.entries) print_entry(entry);
}

}  // namespace

int list(const std::string& wanted) {
  std::string known;
  bool found = false;
  for (const engine::CatalogAxis& axis : engine::catalog()) {
    known += (known.empty() ? "" : ", ") + axis.name;
    if (!wanted.empty() && wanted != axis.name) continue;
    if (found) std::printf("\n");
    print_axis(axis);
    found = true;
  }
  if (!found) throw UsageError(cat("nothing to list under '", wanted, "'; known: ", known));
  return 0;
}

}  // namespace kvmerger::cli
