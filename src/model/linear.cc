#include "model/linear.h"

#include <ggml.h>

#include <algorithm>
#include <array>

#include "kernels/linear.h"

namespace kvmerger::model {
namespace {

// The tokens from which on our product is faster (`model_linear_bench`). These types ggml multiplies a row and a token
// at a time, or in tiles that are hardly faster; for the others it has better tiles, or another layout.
int64_t fewest_tokens(ggml_type type) {
  if (type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1) return 64;
  return type == GGML_TYPE_Q5_0 ? 128 : INT64_MAX;
}

kernels::WeightRows rows_of(const ggml_tensor& weight) {
  return {.data = weight.data,
          .outputs = static_cast<uint32_t>(weight.ne[1]),
          .inputs = static_cast<uint32_t>(weight.ne[0]),
          .block_numbers = static_cast<size_t>(ggml_blck_size(weight.type)),
          .block_bytes = ggml_type_size(weight.type),
          .read = ggml_get_type_traits(weight.type)->to_float};
}

}  // namespace

ggml_tensor* Linear::multiply(ggml_context* context, ggml_tensor* weight, ggml_tensor* x) {
  if (x->ne[1] < fewest_tokens(weight->type)) return ggml_mul_mat(context, weight, x);
  scratch_floats_ = std::max(scratch_floats_, kernels::linear_scratch(rows_of(*weight)));
  std::array<ggml_tensor*, 2> sources{weight, x};
  return ggml_custom_4d(context, GGML_TYPE_F32, weight->ne[1], x->ne[1], 1, 1, sources.data(), sources.size(),
                        &multiply_op, GGML_N_TASKS_MAX, this);
}

void Linear::multiply_op(ggml_tensor* dst, int thread, int threads, void* linear) {
  Linear& self = *static_cast<Linear*>(linear);
  const kernels::WeightRows weights = rows_of(*dst->src[0]);
  const ggml_tensor& x = *dst->src[1];
  float* scratch = self.scratch_.data() + static_cast<size_t>(thread) * self.scratch_floats_;
  for (uint32_t unit = static_cast<uint32_t>(thread); unit < kernels::linear_units(weights);
       unit += static_cast<uint32_t>(threads)) {
    kernels::linear(weights, unit, static_cast<const float*>(x.data), static_cast<uint32_t>(x.ne[1]),
                    static_cast<float*>(dst->data), scratch);
  }
}

}  // namespace kvmerger::model
