// The model's rotary embedding as a graph node.
#pragma once

#include "model/config.h"
#include "model/weights.h"

struct ggml_context;
struct ggml_tensor;

namespace kvmerger::model {

// x [head_dim, heads, m] f32, positions [m] i32. Lengths are scaled by attn_factor and, with yarn, by yarn's own.
ggml_tensor* rope(ggml_context* context, const DecoderConfig& config, const Weights& weights, ggml_tensor* x,
                  ggml_tensor* positions, float attn_factor);

}  // namespace kvmerger::model
