#include "core/spec.h"

#include <algorithm>

#include "core/error.h"

namespace kvmerger {
namespace {

std::pair<std::string, std::string> parse_option(std::string_view item, std::string_view whole) {
  const size_t equals = item.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw UsageError(cat("'", whole, "': '", item, "' is not key=value"));
  }
  return {std::string(item.substr(0, equals)), std::string(item.substr(equals + 1))};
}

}  // namespace

Spec parse_spec(std::string_view text) {
  const size_t colon = text.find(':');
  Spec spec{std::string(text.substr(0, colon)), {}};
  if (spec.name.empty()) throw UsageError(cat("'", text, "': a name is expected, as in name or name:key=value,..."));
  if (colon == std::string_view::npos) return spec;
  std::string_view rest = text.substr(colon + 1);
  while (true) {
    const size_t comma = rest.find(',');
    auto option = parse_option(rest.substr(0, comma), text);
    const auto same = [&](const auto& other) { return other.first == option.first; };
    if (std::any_of(spec.options.begin(), spec.options.end(), same)) {
      throw UsageError(cat("'", text, "': key '", option.first, "' is given twice"));
    }
    spec.options.push_back(std::move(option));
    if (comma == std::string_view::npos) return spec;
    rest = rest.substr(comma + 1);
  }
}

std::string to_string(const Spec& spec) {
  std::string text = spec.name;
  char separator = ':';
  for (const auto& [key, value] : spec.options) {
    text += cat(separator, key, '=', value);
    separator = ',';
  }
  return text;
}

}  // namespace kvmerger
