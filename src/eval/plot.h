// Quality against rows, as a picture: for each section KL and recall beside each other, one line per method.
#pragma once

#include <string>
#include <vector>

#include "eval/summary.h"

namespace kvmerger::eval {

std::string plot_svg(const std::vector<Section>& sections);

}  // namespace kvmerger::eval
