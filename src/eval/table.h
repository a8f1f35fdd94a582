// The table of results, as Markdown.
#pragma once

#include <string>
#include <vector>

#include "eval/summary.h"

namespace kvmerger::eval {

std::string table_markdown(const std::vector<Section>& sections);

}  // namespace kvmerger::eval
