// Speed of the products of weights and many tokens, on one thread: ggml's beside what the decoder graph uses.
#include <benchmark/benchmark.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <memory>
#include <vector>

#include "core/rng.h"
#include "model/linear.h"

namespace kvmerger::model {
namespace {

constexpr int64_t kInputs = 576, kOutputs = 1536;  // SmolLM2-135M's feed-forward

void fill(ggml_tensor* tensor, Rng& rng) {
  std::vector<float> numbers(static_cast<size_t>(ggml_nelements(tensor)));
  for (float& number : numbers) number = static_cast<float>(rng.uniform() - 0.5);
  ggml_quantize_chunk(tensor->type, numbers.data(), tensor->data, 0, tensor->ne[1], tensor->ne[0], nullptr);
}

void product(benchmark::State& state, ggml_type type) {
  const int64_t tokens = state.range(0);
  const bool ggmls = state.range(1) != 0;
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = size_t{64} << 20, .mem_buffer = nullptr, .no_alloc = false}), &ggml_free);
  ggml_tensor* weight = ggml_new_tensor_2d(context.get(), type, kInputs, kOutputs);
  ggml_tensor* x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, kInputs, tokens);
  Rng rng(1);
  fill(weight, rng);
  fill(x, rng);
  Linear linear;
  ggml_tensor* y = ggmls ? ggml_mul_mat(context.get(), weight, x) : linear.multiply(context.get(), weight, x);
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, y);
  ggml_cplan plan = ggml_graph_plan(graph, 1, nullptr);
  std::vector<uint8_t> work(plan.work_size);
  plan.work_data = work.data();
  for (auto _ : state) {
    linear.prepare(1);
    ggml_graph_compute(graph, &plan);
  }
  const auto operations = 2e-9 * static_cast<double>(kInputs * kOutputs * tokens * state.iterations());
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
