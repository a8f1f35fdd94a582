// The texts a model is calibrated on when the user gives none: src/engine/calibration/*.txt, built in.
#pragma once

#include <span>
#include <string_view>

namespace kvmerger::engine {

std::span<const std::string_view> calibration_texts();

}  // namespace kvmerger::engine
