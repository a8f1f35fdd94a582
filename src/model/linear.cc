#include "model/linear.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "kernels/linear.h"
#include "kernels/linear_packed.h"
#include "kernels/linear_rows.h"

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
bool in_file_layout(const ggml_tensor& weight) { return !weight.buffer || ggml_backend_buffer_is_host(weight.buffer); }

// How one token is multiplied with weights of a type, where we are faster than ggml: always on x86-64 with AVX2.
enum class TokenProduct { kGgml, kPackedQ4, kQ4_1, kQ8_0 };

TokenProduct token_product(const ggml_tensor& weight) {
  if (ggml_cpu_has_avx2() == 0) return TokenProduct::kGgml;
  if (in_file_layout(weight)) {
    if (weight.type == GGML_TYPE_Q4_1) return TokenProduct::kQ4_1;
    return weight.type == GGML_TYPE_Q8_0 ? TokenProduct::kQ8_0 : TokenProduct::kGgml;
  }
  // With AVX2 there is one way only in which ggml packs Q4_0.
  const std::string_view buffer = ggml_backend_buffer_name(weight.buffer);
  return weight.type == GGML_TYPE_Q4_0 && buffer == "CPU_REPACK" ? TokenProduct::kPackedQ4 : TokenProduct::kGgml;
}

ggml_type rounded_type(TokenProduct product) {
  return product == TokenProduct::kQ4_1 ? GGML_TYPE_Q8_1 : GGML_TYPE_Q8_0;
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

// Of ggml's blocks of the rounded activations.
size_t rounded_floats(TokenProduct product, uint32_t inputs) {
  return (ggml_row_size(rounded_type(product), inputs) + sizeof(float) - 1) / sizeof(float);
}

}  // namespace

ggml_tensor* Linear::multiply(ggml_context* context, ggml_tensor* weight, ggml_tensor* x) {
  const uint32_t inputs = inputs_of(*weight);
  const TokenProduct product = x->ne[1] == 1 ? token_product(*weight) : TokenProduct::kGgml;
  if (product != TokenProduct::kGgml) {
    const size_t floats = rounded_floats(product, inputs) + kernels::rounded_vector_scratch(inputs);
    return add(context, weight, x, &multiply_token, floats);
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
  const ggml_tensor& weight = *dst->src[0];
  const uint32_t inputs = inputs_of(weight), outputs = outputs_of(weight);
  const TokenProduct way = token_product(weight);
  float *blocks = product.scratch(thread), *scratch = blocks + rounded_floats(way, inputs);
  ggml_get_type_traits_cpu(rounded_type(way))->from_float(static_cast<const float*>(dst->src[1]->data), blocks, inputs);
  const kernels::RoundedVector x = way == TokenProduct::kQ4_1 ? kernels::read_q8_1(blocks, inputs, scratch)
                                                              : kernels::read_q8_0(blocks, inputs, scratch);
  auto* y = static_cast<float*>(dst->data);
  for (uint32_t unit; (unit = product.next.fetch_add(1)) * kUnit < outputs;) {
    const uint32_t first = unit * kUnit, count = std::min(kUnit, outputs - first);
    if (way == TokenProduct::kPackedQ4) {
      kernels::linear_packed({weight.data, outputs, inputs}, first, count, x, y);
    } else {
      const auto format = way == TokenProduct::kQ4_1 ? kernels::RowFormat::kQ4_1 : kernels::RowFormat::kQ8_0;
      kernels::linear_rows({weight.data, inputs, format}, first, count, x, y);
    }
  }
}

}  // namespace kvmerger::model
