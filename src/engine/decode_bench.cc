// Time of one token behind a full cache, by its length and type. What depth adds to it is attention's; with
// --benchmark_enable_random_interleaving the types take turns, so that a busy machine is busy for all of them. Beside
// it, reading memory of about the size of the longest f16 cache.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "core/read_memory.h"
#include "core/rng.h"
#include "core/threads.h"
#include "engine/session.h"
#include "model/model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kThreads = 2;
constexpr uint32_t kMore = 64;  // tokens decoded before the cache is cut back to its depth

using Key = std::pair<int64_t, int64_t>;  // depth, bits

// Filled on first use and kept: a fill takes minutes.
Session& session_of(const char* path, Key key) {
  static const auto model = std::make_shared<const model::Model>(path);
  static std::map<Key, std::unique_ptr<Session>> sessions;
  std::unique_ptr<Session>& session = sessions[key];
  if (session) return *session;
  const auto depth = static_cast<uint32_t>(key.first);
  const kernels::RowType type = key.second == 8 ? kernels::RowType::kQ8 : kernels::RowType::kF16;
  SessionOptions options;
  options.context = depth + kMore;
  options.key_type = options.value_type = type;
  options.threads = kThreads;
  session = std::make_unique<Session>(model, options);
  Rng rng(1);
  std::vector<Token> text(depth);
  for (Token& token : text) token = static_cast<Token>(rng.below(static_cast<uint32_t>(model->config().vocabulary)));
  session->extend(text);
  return *session;
}

void decode(benchmark::State& state) {
  const char* path = std::getenv("KVMERGER_BENCH_MODEL");
  if (path == nullptr) return state.SkipWithError("KVMERGER_BENCH_MODEL must be the path of a model");
  const auto depth = static_cast<uint32_t>(state.range(0));
  Session& session = session_of(path, {state.range(0), state.range(1)});
  session.rewind(depth);
  const Token token = session.tokens().front();
  session.extend({&token, 1});  // so that graph and threads are there
  for (auto _ : state) {
    if (session.tokens().size() == depth + kMore) session.rewind(depth);
    session.extend({&token, 1});
  }
}
BENCHMARK(decode)
    ->ArgNames({"depth", "bits"})
    ->ArgsProduct({{16, 16384}, {8, 16}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

void read_memory(benchmark::State& state) {
  constexpr size_t kShare = size_t{192} << 20;  // of each thread
  static const std::vector<std::byte> bytes(kThreads * kShare, std::byte{1});
  for (auto _ : state) {
    parallel_for(kThreads, kThreads, [&](uint32_t thread) {
      benchmark::DoNotOptimize(kvmerger::read_memory(bytes.data() + thread * kShare, kShare));
    });
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes.size()));
}
BENCHMARK(read_memory)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kvmerger::engine
