#include "model/linear.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "kernels/rounded_vector.h"

namespace kvmerger::model {
namespace {

// The tokens from which on our product is faster (`model_linear_bench`). These types ggml multiplies a row and a token
// at a time, or in tiles that are hardly faster; for the others it has better tiles, or another layout.
int64_t fewest_tokens(ggml_type type) {
  if (type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1) return 64;
  return type == GGML_TYPE_Q5_0 ? 128 : INT64_MAX;
}

// Not in the layout of a special buffer; weights that were left where the file is mapped have none.
bool in_file_layout(const ggml_tensor& weight) { return !weight.buffer || ggml_backend_buffer_is_host(weight.buffer); }

// What one token is multiplied with by us, since we are faster than ggml: on x86-64 with AVX2.
std::optional<kernels::TokenFormat> token_format(const ggml_tensor& weight) {
  if (!kernels::linear_token_is_fast()) return {};
  if (in_file_layout(weight)) {
    if (weight.type == GGML_TYPE_Q4_1) return kernels::TokenFormat::kQ4_1;
    if (weight.type == GGML_TYPE_Q8_0) return kernels::TokenFormat::kQ8_0;
    return {};
  }
  // With AVX2 there is one way only in which ggml packs Q4_0; other special buffers have ways of their own.
  const std::string_view buffer = ggml_backend_buffer_name(weight.buffer);
  const bool packed = weight.type == GGML_TYPE_Q4_0 && buffer == "CPU_REPACK" && ggml_cpu_has_avx2() != 0;
  return packed ? std::optional(kernels::TokenFormat::kPackedQ4) : std::nullopt;
}

// The outputs that a thread takes at once: several times for each thread, so that none waits long for another.
uint32_t token_unit(uint32_t outputs, uint32_t threads) {
  constexpr uint32_t kMost = 64, kGroup = 8;
  return std::clamp(outputs / (4 * threads) / kGroup * kGroup, kGroup, kMost);
}

ggml_type rounded_type(kernels::TokenFormat format) {
  return format == kernels::TokenFormat::kQ4_1 ? GGML_TYPE_Q8_1 : GGML_TYPE_Q8_0;
}

uint32_t inputs_of(const ggml_tensor& weight) { return static_cast<uint32_t>(weight.ne[0]); }
uint32_t outputs_of(const ggml_tensor& weight) { return static_cast<uint32_t>(weight.ne[1]); }

// Of ggml's blocks of the rounded activations.
size_t rounded_floats(kernels::TokenFormat format, uint32_t inputs) {
  return (ggml_row_size(rounded_type(format), inputs) + sizeof(float) - 1) / sizeof(float);
}

}  // namespace

kernels::WeightRows rows_of(const ggml_tensor& weight) {
  return {.data = weight.data,
          .outputs = outputs_of(weight),
          .inputs = inputs_of(weight),
          .block_numbers = static_cast<size_t>(ggml_blck_size(weight.type)),
          .block_bytes = ggml_type_size(weight.type),
          .read = ggml_get_type_traits(weight.type)->to_float};
}

ggml_tensor* Linear::multiply(ggml_context* context, ggml_tensor* weight, ggml_tensor* x) {
  const uint32_t inputs = inputs_of(*weight);
  if (x->ne[1] == 1) {
    const std::optional<kernels::TokenFormat> format = token_format(*weight);
    if (!format) return ggml_mul_mat(context, weight, x);
    return add(context, weight, x, format, rounded_floats(*format, inputs) + kernels::rounded_vector_scratch(inputs));
  }
  if (x->ne[1] >= fewest_tokens(weight->type) && in_file_layout(*weight)) {
    return add(context, weight, x, {}, kernels::linear_scratch(rows_of(*weight)));
  }
  return ggml_mul_mat(context, weight, x);
}

ggml_tensor* Linear::add(ggml_context* context, ggml_tensor* weight, ggml_tensor* x,
                         std::optional<kernels::TokenFormat> format, size_t scratch_floats) {
  KVM_CHECK(x->type == GGML_TYPE_F32 && ggml_is_contiguous(x));
  scratch_floats_ = std::max(scratch_floats_, scratch_floats);
  std::array<ggml_tensor*, 2> sources{weight, x};
  return ggml_custom_4d(context, GGML_TYPE_F32, weight->ne[1], x->ne[1], 1, 1, sources.data(), sources.size(),
                        format ? &multiply_token : &multiply_tokens, GGML_N_TASKS_MAX,
                        &products_.emplace_back(this, weight, format));
}

void Linear::prepare(uint32_t threads) {
  scratch_.resize(threads * scratch_floats_);
  for (Product& product : products_) product.prepare(threads);
}

void Linear::Product::prepare(uint32_t threads) {
  if (!format) return shares.reset(kernels::linear_units(rows_of(*weight)), threads);
  const uint32_t outputs = outputs_of(*weight);
  unit_outputs = token_unit(outputs, threads);
  shares.reset((outputs + unit_outputs - 1) / unit_outputs, threads);
}

float* Linear::Product::scratch(int thread) const {
  return owner->scratch_.data() + static_cast<size_t>(thread) * owner->scratch_floats_;
}

void Linear::multiply_tokens(ggml_tensor* dst, int thread, int /*threads*/, void* data) noexcept {
  Product& product = *static_cast<Product*>(data);
  const kernels::WeightRows weights = rows_of(*product.weight);
  const ggml_tensor& x = *dst->src[1];
  for (uint32_t unit; (unit = product.shares.next(static_cast<uint32_t>(thread))) != WorkShares::kNone;) {
    kernels::linear(weights, unit, static_cast<const float*>(x.data), static_cast<uint32_t>(x.ne[1]),
                    static_cast<float*>(dst->data), product.scratch(thread));
  }
}

// Every thread rounds all of x for itself, which takes less time than waiting for the others.
void Linear::multiply_token(ggml_tensor* dst, int thread, int /*threads*/, void* data) noexcept {
  Product& product = *static_cast<Product*>(data);
  const kernels::TokenWeights weights{product.weight->data, inputs_of(*product.weight), *product.format};
  const uint32_t outputs = outputs_of(*product.weight);
  float *blocks = product.scratch(thread), *scratch = blocks + rounded_floats(weights.format, weights.inputs);
  const ggml_type rounded = rounded_type(weights.format);
  ggml_get_type_traits_cpu(rounded)->from_float(static_cast<const float*>(dst->src[1]->data), blocks, weights.inputs);
  const auto read = rounded == GGML_TYPE_Q8_1 ? &kernels::read_q8_1 : &kernels::read_q8_0;
  const kernels::RoundedVector x = read(blocks, weights.inputs, scratch);
  for (uint32_t unit; (unit = product.shares.next(static_cast<uint32_t>(thread))) != WorkShares::kNone;) {
    const uint32_t first = unit * product.unit_outputs;
    kernels::linear_token(weights, first, std::min(product.unit_outputs, outputs - first), x,
                          static_cast<float*>(dst->data));
  }
}

}  // namespace kvmerger::model
