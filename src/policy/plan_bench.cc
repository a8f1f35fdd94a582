// Time to plan one head, for every policy of the table at its defaults: 8192 rows of 64 to 35 %.
#include <benchmark/benchmark.h>

#include "policy/test_heads.h"

namespace kvmerger::policy {
namespace {

void plan_head(benchmark::State& state, const Entry& entry) {
  Rng rng(1);
  const TestHead head = random_head(8192, 64, rng);
  const auto policy = entry.make();
  const kv::LayerView view = layer_view({&head, 1}, policy->needs());
  const std::vector<uint32_t> rows{policy->compresses() ? 2867U : head.rows};
  for (auto _ : state) benchmark::DoNotOptimize(policy->plan(view, rows));
}

const bool kRegistered = [] {
  for (const Entry& entry : all()) {
    benchmark::RegisterBenchmark(entry.name, [&entry](benchmark::State& state) {
      plan_head(state, entry);
    })->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace kvmerger::policy
