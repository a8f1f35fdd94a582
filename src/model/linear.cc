#include "model/linear.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "kernels/linear.h"
#include "kernels/linear_q4.h"

namespace kvmerger::model {
namespace {

constexpr uint32_t kUnit = 64;  // outputs that a thread takes at once when there is one token

// The tokens from which on our product is faster (`model_linear_bench`). These types ggml multiplies a row and a token
// at a time, or in tiles that are hardly faster; for the others it has better tiles, or another layout.
int64_t fewest_tokens(ggml_type type) {
  if (type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1) return 64;
  return type == GGML_TYPE_Q5_0 ? 128 : INT64_MAX;
}

// Not in the layout of a special buffer; weights that were left where the file is mapped have none.
bool in_file_layout(const ggml_tensor& weight) {
  return !weight.buffer || ggml_backend_buffer_is_host(weight.buffer);
}

// Where ggml has 256-bit integers it packs Q4_0 in one way only.
bool is_packed_q4(const ggml_tensor& weight) {
  return weight.type == GGML_TYPE_Q4_0 && weight.buffer && ggml_cpu_has_avx2() != 0 &&
         std::string_view(ggml_backend_buffer_name(weight.buffer)) == "CPU_REPACK";
}

uint32_t inputs_of(const ggml_tensor& weight) { return static_cast<uint32_t>(weight.ne[0]); }
uint32_t outputs_of(const ggml_tensor& weight) { return static_cast<uint32_t>(weight.ne[1]); }

kernels::WeightRows rows_of(const ggml_tensor& weight) {
  return {.data = weight.data,
          .outputs = outputs_of(weight),
          .inputs = inputs_of(weight),
          .block_numbers = static_cast<size_t>(ggml_blck_size(weight.type)),
          .block_bytes = ggml_type_size(weight.type),
          .read = ggml_get_type_traits(weight.type)->to_float};
}

size_t q8_0_floats(uint32_t inputs) {
  return (ggml_row_size(GGML_TYPE_Q8_0, inputs) + sizeof(float) - 1) / sizeof(float);
}

}  // namespace

ggml_tensor* Linear::multiply(ggml_context* context, ggml_tensor* weight, ggml_tensor* x) {
  const uint32_t inputs = inputs_of(*weight);
  if (x->ne[1] == 1 && is_packed_q4(*weight)) {
    return add(context, weight, x, &multiply_token, q8_0_floats(inputs) + kernels::rounded_vector_scratch(inputs));
  }
  if (x->ne[1] >= fewest_tokens(weight->type) && in_file_layout(*weight)) {
    return add(context, weight, x, &multiply_tokens, kernels::linear_scratch(rows_of(*weight)));
  }
  return ggml_mul_mat(context, weight, x);
}

ggml_tensor* Linear::add(ggml_context* context, ggml_tensor* weight, ggml_tensor* x, Operation run,
                         size_t scratch_floats) {
  scratch_floats_ = std::max(scratch_floats_, scratch_floats);
  std::array<ggml_tensor*, 2> sources{weight, x};
  return ggml_custom_4d(context, GGML_TYPE_F32, weight->ne[1], x->ne[1], 1, 1, sources.data(), sources.size(), run,
                        GGML_N_TASKS_MAX, &products_.emplace_back(this));
}

void Linear::prepare(uint32_t threads) {
  scratch_.resize(threads * scratch_floats_);
  for (Product& product : products_) product.next = 0;
}

float* Linear::Product::scratch(int thread) const {
  return owner->scratch_.data() + static_cast<size_t>(thread) * owner->scratch_floats_;
}

void Linear::multiply_tokens(ggml_tensor* dst, int thread, int /*threads*/, void* data) noexcept {
  Product& product = *static_cast<Product*>(data);
  const kernels::WeightRows weights = rows_of(*dst->src[0]);
  const ggml_tensor& x = *dst->src[1];
  for (uint32_t unit; (unit = product.next.fetch_add(1)) < kernels::linear_units(weights);) {
    kernels::linear(weights, unit, static_cast<const float*>(x.data), static_cast<uint32_t>(x.ne[1]),
                    static_cast<float*>(dst->data), product.scratch(thread));
  }
}

// Every thread rounds all of x for itself, which takes less time than waiting for the others.
void Linear::multiply_token(ggml_tensor* dst, int thread, int /*threads*/, void* data) noexcept {
  Product& product = *static_cast<Product*>(data);
  const kernels::PackedQ4 weights{dst->src[0]->data, outputs_of(*dst->src[0]), inputs_of(*dst->src[0])};
  float* blocks = product.scratch(thread);
  ggml_get_type_traits_cpu(GGML_TYPE_Q8_0)
      ->from_float(static_cast<const float*>(dst->src[1]->data), blocks, weights.inputs);
  const kernels::RoundedVector x =
      kernels::read_q8_0(blocks, weights.inputs, blocks + q8_0_floats(weights.inputs));
  for (uint32_t unit; (unit = product.next.fetch_add(1)) * kUnit < weights.outputs;) {
    const uint32_t first = unit * kUnit;
    kernels::linear_q4(weights, first, std::min(kUnit, weights.outputs - first), x, static_cast<float*>(dst->data));
  }
}

}  // namespace kvmerger::model
