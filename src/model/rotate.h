// Queries that are already rotated (RoPE), rotated on: as if they had been asked at other positions.
#pragma once

#include <cstdint>
#include <span>

#include "model/model.h"

namespace kvmerger::model {

// rows [moves, heads * head_dim]: all query heads of a token, after RoPE at its position. Row i is turned by moves[i]
// positions. Lengths stay (of yarn's length factor they have theirs already).
void rotate(const Model& model, std::span<float> rows, std::span<const int32_t> moves);

}  // namespace kvmerger::model
