// The one thing the decoder graph asks of a cache: append these keys and values, attend with these queries.
#pragma once

#include <cstdint>

struct ggml_context;
struct ggml_tensor;

namespace kvmerger::model {

class AttentionPort {
 public:
  virtual ~AttentionPort() = default;
  // Adds to the graph: keep k and v as the next rows of `layer`, then attend. All f32 and contiguous, after RoPE:
  // q [head_dim, heads, tokens], k, v [head_dim, kv_heads, tokens]. Returns [head_dim * heads, tokens].
  virtual ggml_tensor* attend(ggml_context* context, uint32_t layer, ggml_tensor* q, ggml_tensor* k,
                              ggml_tensor* v) = 0;
};

}  // namespace kvmerger::model
