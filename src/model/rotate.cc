#include "model/rotate.h"

#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/error.h"
#include "model/rope.h"

namespace kvmerger::model {

ggml_tensor* rope(ggml_context* context, const DecoderConfig& config, const Weights& weights, ggml_tensor* x,
                  ggml_tensor* positions, float attn_factor) {
  const Rope& rope = config.rope;
  const int mode = config.arch->neox_rope ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
  constexpr float kBetaFast = 32.0F, kBetaSlow = 1.0F;  // yarn's ramp, as every converter assumes
  return ggml_rope_ext(context, x, positions, weights.rope_factors, static_cast<int>(rope.dims), mode,
                       static_cast<int>(rope.original_context), rope.base, rope.scale, rope.ext_factor, attn_factor,
                       kBetaFast, kBetaSlow);
}

void rotate(const Model& model, std::span<float> rows, std::span<const int32_t> moves) {
  if (moves.empty()) return;
  const DecoderConfig& config = model.config();
  const auto count = static_cast<int64_t>(moves.size());
  KVM_CHECK(rows.size() == moves.size() * config.heads * config.head_dim);
  const size_t memory = 2 * rows.size_bytes() + moves.size_bytes() + 16 * ggml_tensor_overhead() +
                        ggml_graph_overhead() + (size_t{1} << 20);  // the last for ggml's work buffer
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = memory, .mem_buffer = nullptr, .no_alloc = false}), &ggml_free);
  if (!context) throw Error("no memory to rotate reference queries");
  ggml_tensor* x = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, config.head_dim, config.heads, count);
  ggml_tensor* positions = ggml_new_tensor_1d(context.get(), GGML_TYPE_I32, count);
  std::copy(rows.begin(), rows.end(), static_cast<float*>(x->data));
  std::copy(moves.begin(), moves.end(), static_cast<int32_t*>(positions->data));
  // ggml multiplies yarn's length factor in again; this takes it out.
  const float yarn = config.rope.ext_factor != 0.0F ? 1.0F + 0.1F * std::log(1.0F / config.rope.scale) : 1.0F;
  ggml_tensor* turned = rope(context.get(), config, model.weights(), x, positions, 1.0F / yarn);
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, turned);
  if (ggml_graph_compute_with_ctx(context.get(), graph, 1) != GGML_STATUS_SUCCESS) throw Error("ggml: RoPE failed");
  std::copy_n(static_cast<const float*>(turned->data), rows.size(), rows.begin());
}

}  // namespace kvmerger::model
