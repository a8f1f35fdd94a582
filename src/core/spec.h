// Spec strings, `name` or `name:key=value,...`: how every selectable thing is named in flags, reports and result rows.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvmerger {

struct Spec {
  std::string name;
  std::vector<std::pair<std::string, std::string>> options;  // in the order written
};

// Throws UsageError on an empty name, an option without '=', an empty or a repeated key.
Spec parse_spec(std::string_view text);
std::string to_string(const Spec& spec);

}  // namespace kvmerger
