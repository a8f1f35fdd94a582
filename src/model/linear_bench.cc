// Speed of products of quantised weights and many tokens, on one thread: ggml's beside ours.
#include <benchmark/benchmark.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <memory>
#include <vector>

#include "core/rng.h"
#include "kernels/linear.h"
#include "model/linear.h"

namespace kvmerger::model {
namespace {

void fill(ggml_tensor* tensor) {
  Rng rng(1);
  std::vector<float> numbers(static_cast<size_t>(ggml_nelements(tensor)));
  for (float& number : numbers) number = static_cast<float>(rng.uniform() - 0.5);
  ggml_quantize_chunk(tensor->type, numbers.data(), tensor->data, 0, tensor->ne[1], tensor->ne[0], nullptr);
}

void run_ggml(benchmark::State& state, ggml_context* context, ggml_tensor* weight, ggml_tensor* x) {
  ggml_cgraph* graph = ggml_new_graph(context);
  ggml_build_forward_expand(graph, ggml_mul_mat(context, weight, x));
  ggml_cplan plan = ggml_graph_plan(graph, 1, nullptr);
  std::vector<uint8_t> work(plan.work_size);
  plan.work_data = work.data();
  for (auto _ : state) ggml_graph_compute(graph, &plan);
}

void run_ours(benchmark::State& state, const ggml_tensor& weight, const ggml_tensor& x) {
  const kernels::WeightRows rows = rows_of(weight);
  const auto tokens = static_cast<uint32_t>(x.ne[1]);
  std::vector<float> y(size_t{rows.outputs} * tokens), scratch(kernels::linear_scratch(rows));
  for (auto _ : state) {
    for (uint32_t unit = 0; unit < kernels::linear_units(rows); ++unit) {
      kernels::linear(rows, unit, static_cast<const float*>(x.data), tokens, y.data(), scratch.data());
    }
  }
}

// Also for types and numbers of tokens that the decoder graph leaves to ggml.
void product(benchmark::State& state, ggml_type type) {
  const int64_t inputs = 576, outputs = 1536, tokens = state.range(0);  // SmolLM2-135M's feed-forward
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = size_t{64} << 20, .mem_buffer = nullptr, .no_alloc = false}), &ggml_free);
  ggml_tensor* weight = ggml_new_tensor_2d(context.get(), type, inputs, outputs);
  ggml_tensor* x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, inputs, tokens);
  fill(weight);
  fill(x);
  if (state.range(1) != 0) {
    run_ggml(state, context.get(), weight, x);
  } else {
    run_ours(state, *weight, *x);
  }
  const auto operations = 2e-9 * static_cast<double>(inputs * outputs * tokens * state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(operations, benchmark::Counter::kIsRate);
}

#define KVMERGER_PRODUCTS_OF(type)            \
  BENCHMARK_CAPTURE(product, type, type)      \
      ->ArgNames({"tokens", "ggml"})          \
      ->ArgsProduct({{64, 128, 512}, {0, 1}}) \
      ->Unit(benchmark::kMicrosecond)
KVMERGER_PRODUCTS_OF(GGML_TYPE_Q4_1);
KVMERGER_PRODUCTS_OF(GGML_TYPE_Q5_0);
KVMERGER_PRODUCTS_OF(GGML_TYPE_Q5_1);
KVMERGER_PRODUCTS_OF(GGML_TYPE_Q8_0);
#undef KVMERGER_PRODUCTS_OF

}  // namespace
}  // namespace kvmerger::model
