// Speed of products of weights and one token, two threads, over so many weights that no cache holds them; `read_memory`
// of kernels_attention_bench is the bound to compare GB/s with.
#include <benchmark/benchmark.h>

#include <atomic>
#include <vector>

#include "core/rng.h"
#include "core/threads.h"
#include "kernels/linear_packed.h"
#include "kernels/linear_rows.h"

namespace kvmerger::kernels {
namespace {

constexpr uint32_t kThreads = 2, kUnit = 64;
constexpr size_t kWeightBytes = size_t{256} << 20;

std::vector<uint8_t> random_bytes(size_t count) {
  Rng rng(1);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng.uniform() * 60);  // as halves of scales: finite, small
  return bytes;
}

// multiply(weights, first, count, x, y): outputs first.. of all.
template <class Multiply>
void one_token(benchmark::State& state, uint32_t inputs, double bytes_per_block, const Multiply& multiply) {
  const auto row_bytes = static_cast<size_t>(bytes_per_block * inputs / 32);
  const auto outputs = static_cast<uint32_t>(kWeightBytes / row_bytes / kUnit * kUnit);
  const std::vector<uint8_t> weights = random_bytes(outputs * row_bytes), blocks = random_bytes(size_t{inputs} * 2);
  std::vector<float> scratch(rounded_vector_scratch(inputs)), y(outputs);
  const RoundedVector x = read_q8_0(blocks.data(), inputs, scratch.data());
  for (auto _ : state) {
    std::atomic<uint32_t> next{0};
    parallel_for(kThreads, kThreads, [&](uint32_t) {
      for (uint32_t first; (first = next.fetch_add(1) * kUnit) < outputs;) {
        multiply(weights.data(), outputs, first, x, y.data());
      }
    });
  }
  const double bytes = 1e-9 * static_cast<double>(outputs * row_bytes) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsRate);
}

void packed_q4_0(benchmark::State& state) {
  const auto inputs = static_cast<uint32_t>(state.range(0));
  one_token(state, inputs, 18, [&](const uint8_t* weights, uint32_t outputs, uint32_t first, const auto& x, float* y) {
    linear_packed({weights, outputs, inputs}, first, kUnit, x, y);
  });
}
void rows(benchmark::State& state, RowFormat format, double bytes_per_block) {
  const auto inputs = static_cast<uint32_t>(state.range(0));
  one_token(state, inputs, bytes_per_block,
            [&](const uint8_t* weights, uint32_t /*outputs*/, uint32_t first, const auto& x, float* y) {
              linear_rows({weights, inputs, format}, first, kUnit, x, y);
            });
}
BENCHMARK(packed_q4_0)->ArgName("inputs")->Arg(576)->Arg(4096)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(rows, q4_1, RowFormat::kQ4_1, 20)
    ->ArgName("inputs")
    ->Arg(576)
    ->Arg(1536)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(rows, q8_0, RowFormat::kQ8_0, 34)
    ->ArgName("inputs")
    ->Arg(576)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kvmerger::kernels
