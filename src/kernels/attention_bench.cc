// Speed of attention. Decoding streams over 90 heads (30 layers x 3) of their own memory, as one token of SmolLM2-135M
// does, so that no cache holds them; `read_rows` is the bound to compare with.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "core/read_memory.h"
#include "core/threads.h"
#include "kernels/attention.h"
#include "kernels/test_head.h"

namespace kvmerger::kernels {
namespace {

constexpr uint32_t kHeadDim = 64;
constexpr uint32_t kHeads = 90;

// Query vectors, states and scratch of one thread.
class Caller {
 public:
  Caller(uint32_t count, uint32_t rows, bool with_stats)
      : memory_(count * (2 * kHeadDim + 2)),
        scratch_(attend_scratch(count, rows, kHeadDim, with_stats)),
        stats_(3 * rows) {
    Rng rng(1);
    for (float& value : memory_) value = random_value(rng);
    for (uint32_t query = 0; query < count; ++query) data_.push_back(memory_.data() + query * kHeadDim);
    queries_ = {data_.data(), count, nullptr, 1 / std::sqrt(static_cast<float>(kHeadDim))};
    float* states = memory_.data() + count * kHeadDim;
    out_ = {states, states + count, states + 2 * count};
    in_window_.assign(count, 1);
    column_stats_ = {stats_.data(), stats_.data() + rows, stats_.data() + 2 * rows, in_window_.data()};
    with_stats_ = with_stats;
  }

  void attend_to(const HeadRows& head) {
    attend(head, 0, head.rows, queries_, out_, with_stats_ ? &column_stats_ : nullptr, scratch_.data());
    benchmark::DoNotOptimize(out_.acc[0]);
  }

 private:
  std::vector<float> memory_, scratch_, stats_;
  std::vector<const float*> data_;
  std::vector<uint8_t> in_window_;
  Queries queries_{};
  Partial out_{};
  ColumnStats column_stats_{};
  bool with_stats_ = false;
};

// Per iteration.
void count_bytes(benchmark::State& state, double bytes) {
  const double total = static_cast<double>(state.iterations()) * bytes;
  state.counters["GB/s"] = benchmark::Counter(total * 1e-9, benchmark::Counter::kIsRate);
}
void count_products(benchmark::State& state, double queries, double rows) {
  const double operations = 4 * queries * rows * kHeadDim;  // a multiplication and an addition, for K and for V
  const double total = static_cast<double>(state.iterations()) * operations;
  state.counters["GFLOP/s"] = benchmark::Counter(total * 1e-9, benchmark::Counter::kIsRate);
}

double stored_bytes(double rows, RowType type) {
  return rows / kPageRows * 2 * static_cast<double>(part_bytes(type, kHeadDim));
}

RowType type_of(int64_t bits) { return bits == 32 ? RowType::kF32 : bits == 16 ? RowType::kF16 : RowType::kQ8; }

using Heads = std::vector<std::unique_ptr<TestHead>>;

// The heads of one token, kept until other numbers of rows are asked for: who reads them in turn reads the same memory.
const Heads& heads_of(uint32_t rows, RowType type) {
  static std::map<std::pair<uint32_t, RowType>, Heads> known;
  if (!known.empty() && known.begin()->first.first != rows) known.clear();
  Heads& heads = known[{rows, type}];
  for (uint32_t head = static_cast<uint32_t>(heads.size()); head < kHeads; ++head) {
    heads.push_back(std::make_unique<TestHead>(rows, kHeadDim, type, type, head));
  }
  return heads;
}

// All heads, shared by the threads.
template <class Read>
void read_heads(benchmark::State& state, const Read& read) {
  const uint32_t rows = static_cast<uint32_t>(state.range(0)), threads = static_cast<uint32_t>(state.range(2));
  const RowType type = type_of(state.range(1));
  const Heads& heads = heads_of(rows, type);
  for (auto _ : state) {
    std::atomic<uint32_t> next{0};  // threads take heads in turn: one may be held up
    parallel_for(threads, threads, [&](uint32_t thread) {
      for (uint32_t head; (head = next.fetch_add(1)) < kHeads;) read(thread, *heads[head]);
    });
  }
  count_bytes(state, kHeads * stored_bytes(rows, type));
}

// One token: a group of three query heads on each of the 90 KV heads.
void decode(benchmark::State& state) {
  std::vector<Caller> callers;
  for (int64_t thread = 0; thread < state.range(2); ++thread) {
    callers.emplace_back(3, static_cast<uint32_t>(state.range(0)), false);
  }
  read_heads(state, [&](uint32_t thread, const TestHead& head) { callers[thread].attend_to(head.rows()); });
  count_products(state, 3 * kHeads, static_cast<double>(state.range(0)));
}
BENCHMARK(decode)
    ->ArgNames({"rows", "bits", "threads"})
    ->ArgsProduct({{1024, 8192, 16384}, {8, 16, 32}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// A block of prompt positions times group over the rows before it; stats = 1 records sum, window and maximum.
void prefill(benchmark::State& state) {
  const uint32_t queries = static_cast<uint32_t>(state.range(0)), rows = static_cast<uint32_t>(state.range(1));
  const RowType type = type_of(state.range(2));
  const TestHead head(rows, kHeadDim, type, type, 1);
  Caller caller(queries, rows, state.range(3) != 0);
  for (auto _ : state) caller.attend_to(head.rows());
  count_bytes(state, stored_bytes(rows, type));
  count_products(state, queries, rows);
}
BENCHMARK(prefill)
    ->ArgNames({"queries", "rows", "bits", "stats"})
    ->ArgsProduct({{12, 48, 64}, {4096}, {8, 16, 32}, {0, 1}})
    ->Args({48, 512, 16, 0})
    ->Unit(benchmark::kMicrosecond);

// The rows that `decode` reads, and nothing else done.
void read_rows(benchmark::State& state) {
  read_heads(state, [](uint32_t /*thread*/, const TestHead& head) {
    benchmark::DoNotOptimize(read_memory(head.bytes().data(), head.bytes().size()));
  });
  count_products(state, 0, 0);  // CSV wants the same counters everywhere
}
BENCHMARK(read_rows)
    ->ArgNames({"rows", "bits", "threads"})
    ->ArgsProduct({{16384}, {8, 16, 32}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kvmerger::kernels
