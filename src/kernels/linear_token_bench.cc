// Speed of products of weights and one token, two threads, over so many weights that no cache holds them; `read_memory`
// of kernels_attention_bench is the bound to compare GB/s with.
#include <benchmark/benchmark.h>

#include <vector>

#include "core/rng.h"
#include "core/threads.h"
#include "kernels/linear_token.h"

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

// In matrices as wide as SmolLM2-135M's (576, 1536) and a 7B model's (4096).
void one_token(benchmark::State& state, TokenFormat format, size_t bytes_per_block) {
  const auto inputs = static_cast<uint32_t>(state.range(0));
  const size_t row_bytes = inputs / 32 * bytes_per_block;
  const auto outputs = static_cast<uint32_t>(kWeightBytes / row_bytes / kUnit * kUnit);
  const std::vector<uint8_t> weights = random_bytes(outputs * row_bytes), blocks = random_bytes(size_t{inputs} * 2);
  std::vector<float> scratch(rounded_vector_scratch(inputs)), y(outputs);
  const auto read = format == TokenFormat::kQ4_1 ? &read_q8_1 : &read_q8_0;
  const RoundedVector x = read(blocks.data(), inputs, scratch.data());
  for (auto _ : state) {
    parallel_for(outputs / kUnit, kThreads, [&](uint32_t unit) {
      linear_token({weights.data(), inputs, format}, unit * kUnit, kUnit, x, y.data());
    });
  }
  const double bytes = 1e-9 * static_cast<double>(outputs * row_bytes) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsRate);
}
#define KVMERGER_TOKEN_TIMES(name, format, bytes_per_block)   \
  BENCHMARK_CAPTURE(one_token, name, format, bytes_per_block) \
      ->ArgName("inputs")                                     \
      ->ArgsProduct({{576, 1536, 4096}})                      \
      ->UseRealTime()                                         \
      ->Unit(benchmark::kMillisecond)
KVMERGER_TOKEN_TIMES(q4_1, TokenFormat::kQ4_1, 20);
KVMERGER_TOKEN_TIMES(q8_0, TokenFormat::kQ8_0, 34);
KVMERGER_TOKEN_TIMES(packed_q4_0, TokenFormat::kPackedQ4, 18);
#undef KVMERGER_TOKEN_TIMES

}  // namespace
}  // namespace kvmerger::kernels
