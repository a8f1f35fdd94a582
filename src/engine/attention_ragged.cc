#include "engine/attention_ragged.h"

#include <ggml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>

#include "core/clock.h"
#include "core/error.h"
#include "core/work_shares.h"

namespace kvmerger::engine {
namespace {

// Decoding splits a layer's rows into some kLayerParts parts of the same length, none shorter than kLeastPartRows: each
// part costs a call, and its first rows a wait where its thread did not come from the part before, so few of them, but
// enough for up to some 16 threads to share evenly. Prefill splits the queries into blocks. Neither depends on the
// number of threads, and so neither does the order of additions.
constexpr uint32_t kLayerParts = 32;
constexpr uint32_t kLeastPartRows = 256;
constexpr uint32_t kBlockQueries = 48;
// With statistics the blocks of a head go to this many slots, each with column sums of its own.
constexpr uint32_t kSlots = 8;

const float* f32(const ggml_tensor& tensor) { return static_cast<const float*>(tensor.data); }
float* f32(ggml_tensor& tensor) { return static_cast<float*>(tensor.data); }

uint32_t parts_of(uint32_t rows, uint32_t part_rows) { return (rows + part_rows - 1) / part_rows; }

// Adds the time until it goes out of scope.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() { seconds_ += seconds_since(start_); }

 private:
  double& seconds_;
  const Clock::time_point start_ = Clock::now();
};

ggml_tensor* custom(ggml_context* context, std::array<int64_t, 2> shape, std::span<ggml_tensor*> sources,
                    ggml_custom_op_t op, void* data) {
  return ggml_custom_4d(context, GGML_TYPE_F32, shape[0], shape[1], 1, 1, sources.data(),
                        static_cast<int>(sources.size()), op, GGML_N_TASKS_MAX, data);
}

}  // namespace

struct RaggedAttention::LayerOp {
  RaggedAttention* port;
  uint32_t layer;
  uint32_t part_rows = kLeastPartRows;  // of one part when decoding
  std::vector<uint32_t> first_unit;     // [heads + 1] a head's units of work: parts, blocks or slots
  WorkShares shares;                    // of all heads' units
};

// The queries of one block: `tokens` consecutive tokens x the query heads of one KV head.
struct RaggedAttention::Block {
  std::array<const float*, kernels::kMaxQueries> query;
  std::array<float*, kernels::kMaxQueries> output;
  std::array<uint32_t, kernels::kMaxQueries> visible;
  std::array<uint8_t, kernels::kMaxQueries> in_window;
  uint32_t count = 0;
};

RaggedAttention::RaggedAttention(const model::DecoderConfig& config, kv::Store& store, ReferenceQueries& queries,
                                 uint32_t threads)
    : heads_(config.kv_heads),
      group_(config.group()),
      head_dim_(config.head_dim),
      threads_(threads),
      scale_(1.0F / std::sqrt(static_cast<float>(config.head_dim))),
      store_(store),
      queries_(queries),
      statistics_seconds_(threads) {
  KVM_CHECK(group_ <= kernels::kMaxQueries);
  for (uint32_t layer = 0; layer < config.layers; ++layer) {
    layers_.push_back(std::make_unique<LayerOp>(this, layer, kLeastPartRows, std::vector<uint32_t>(heads_ + 1)));
  }
}

RaggedAttention::~RaggedAttention() = default;

ggml_tensor* RaggedAttention::attend(ggml_context* context, uint32_t layer, ggml_tensor* q, ggml_tensor* k,
                                     ggml_tensor* v) {
  LayerOp* op = layers_[layer].get();
  const std::array<int64_t, 2> width{int64_t{head_dim_} * heads_ * group_, q->ne[2]}, nothing{1, 1};
  std::array<ggml_tensor*, 2> rows{k, v};
  ggml_tensor* appended = custom(context, nothing, rows, &append_op, op);
  std::array<ggml_tensor*, 2> inputs{q, appended};
  const bool decoding = q->ne[2] == 1 && !recording_.any_stat();
  ggml_tensor* attended = custom(context, decoding ? nothing : width, inputs, &attend_op, op);
  std::array<ggml_tensor*, 1> done{attended};
  if (decoding) return custom(context, width, done, &merge_op, op);
  if (!recording_.any_stat()) return attended;
  return ggml_custom_inplace(context, attended, nullptr, 0, &fold_op, GGML_N_TASKS_MAX, op);
}

void RaggedAttention::record(const Recording& recording) {
  recording_ = recording;
  for (uint32_t stat = 0; stat < kv::kStats; ++stat) KVM_CHECK(!recording.stats[stat] || store_.shape().stats[stat]);
}

double RaggedAttention::statistics_seconds() const {
  return std::accumulate(statistics_seconds_.begin(), statistics_seconds_.end(), 0.0) / threads_;
}

uint32_t RaggedAttention::part_rows(uint32_t layer) const {
  uint64_t all = 0;
  for (uint32_t head = 0; head < heads_; ++head) all += store_.rows(layer, head) + tokens_;
  const uint64_t step = uint64_t{kLayerParts} * kLeastPartRows;
  return static_cast<uint32_t>((all + step - 1) / step) * kLeastPartRows;
}

uint32_t RaggedAttention::units_of(const LayerOp& op, uint32_t head) const {
  if (decoding()) return parts_of(store_.rows(op.layer, head) + tokens_, op.part_rows);
  return recording_.any_stat() ? kSlots : blocks();
}

void RaggedAttention::split(LayerOp& op) {
  if (decoding()) op.part_rows = part_rows(op.layer);
  for (uint32_t head = 0; head < heads_; ++head) {
    const uint32_t units = units_of(op, head);
    op.first_unit[head + 1] = op.first_unit[head] + units;
    max_units_ = std::max(max_units_, units);
  }
  op.shares.reset(op.first_unit.back(), threads_);
}

uint32_t RaggedAttention::block_tokens() const { return std::max(1U, kBlockQueries / group_); }
uint32_t RaggedAttention::blocks() const { return (tokens_ + block_tokens() - 1) / block_tokens(); }
size_t RaggedAttention::block_state(uint32_t queries) const { return size_t{queries} * (2 + head_dim_); }

void RaggedAttention::begin_run(uint32_t tokens, int32_t first_pos) {
  store_.reserve(tokens);
  tokens_ = tokens;
  first_pos_ = first_pos;
  max_rows_ = 0;
  for (uint32_t layer = 0; layer < layers_.size(); ++layer) {
    for (uint32_t head = 0; head < heads_; ++head) max_rows_ = std::max(max_rows_, store_.rows(layer, head) + tokens);
  }
  const uint32_t queries = block_tokens() * group_;
  scratch_floats_ =
      block_state(queries) + kernels::attend_scratch(queries, max_rows_, head_dim_, recording_.any_stat());
  if (scratch_.size() < threads_ * scratch_floats_) scratch_.resize(threads_ * scratch_floats_);
  max_units_ = 0;
  for (const auto& op : layers_) split(*op);
  if (decoding()) {
    const size_t states = size_t{heads_} * max_units_ * group_;
    if (partial_max_.size() < states) {
      partial_max_.resize(states);
      partial_sum_.resize(states);
      partial_acc_.resize(states * head_dim_);
    }
  }
  for (uint32_t stat = 0; stat < kv::kStats; ++stat) {
    if (recording_.stats[stat]) slot_stats_[stat].resize(size_t{heads_} * kSlots * max_rows_);
  }
  if (recording_.queries) {
    queries_.begin_run(tokens, first_pos);
  } else {
    queries_.no_run();
  }
}

float* RaggedAttention::slot_stats(kv::Stat stat, uint32_t head, uint32_t slot) noexcept {
  std::vector<float>& values = slot_stats_[static_cast<size_t>(stat)];
  if (!recorded(stat)) return nullptr;
  return values.data() + (size_t{head} * kSlots + slot) * max_rows_;
}

void RaggedAttention::append_op(ggml_tensor* dst, int thread, int threads, void* data) noexcept {
  LayerOp& op = *static_cast<LayerOp*>(data);
  RaggedAttention& port = *op.port;
  const size_t stride = size_t{port.heads_} * port.head_dim_;
  for (uint32_t head = static_cast<uint32_t>(thread); head < port.heads_; head += static_cast<uint32_t>(threads)) {
    const size_t offset = size_t{head} * port.head_dim_;
    port.store_.append(op.layer, head, port.tokens_, f32(*dst->src[0]) + offset, f32(*dst->src[1]) + offset, stride,
                       port.first_pos_);
  }
}

void RaggedAttention::attend_op(ggml_tensor* dst, int thread, int /*threads*/, void* data) noexcept {
  LayerOp& op = *static_cast<LayerOp*>(data);
  RaggedAttention& port = *op.port;
  const ggml_tensor& q = *dst->src[0];
  float* scratch = port.scratch_.data() + static_cast<size_t>(thread) * port.scratch_floats_;
  if (thread == 0) port.sample_queries(op, q);
  for (uint32_t unit; (unit = op.shares.next(static_cast<uint32_t>(thread))) != WorkShares::kNone;) {
    const auto behind = std::ranges::upper_bound(op.first_unit, unit);
    const auto head = static_cast<uint32_t>(behind - op.first_unit.begin() - 1);
    const uint32_t index = unit - op.first_unit[head];
    if (port.decoding()) {
      port.attend_part(op, q, head, index, scratch);
    } else if (port.recording_.any_stat()) {
      port.attend_slot(op, q, *dst, head, index, port.seconds(thread), scratch);
    } else {
      port.attend_block(op, q, *dst, head, index, nullptr, scratch);
    }
  }
}

void RaggedAttention::sample_queries(const LayerOp& op, const ggml_tensor& q) noexcept {
  const size_t width = size_t{heads_} * group_ * head_dim_;
  for (const ReferenceQueries::Pick& pick : queries_.picks()) {
    std::copy_n(f32(q) + pick.token * width, width, queries_.slot(op.layer, pick.slot));
  }
}

void RaggedAttention::attend_part(const LayerOp& op, const ggml_tensor& q, uint32_t head, uint32_t part,
                                  float* scratch) noexcept {
  const kernels::HeadRows rows = store_.head(op.layer, head);
  const uint32_t begin = part * op.part_rows, end = std::min(rows.rows, begin + op.part_rows);
  std::array<const float*, kernels::kMaxQueries> queries;
  for (uint32_t member = 0; member < group_; ++member) {
    queries[member] = f32(q) + (size_t{head} * group_ + member) * head_dim_;
  }
  const size_t state = (size_t{head} * max_units_ + part) * group_;
  const kernels::Partial out{&partial_max_[state], &partial_sum_[state], &partial_acc_[state * head_dim_]};
  kernels::attend(rows, begin, end, {queries.data(), group_, nullptr, scale_}, out, nullptr, scratch);
}

void RaggedAttention::merge_op(ggml_tensor* dst, int thread, int threads, void* data) noexcept {
  const LayerOp& op = *static_cast<LayerOp*>(data);
  RaggedAttention& port = *op.port;
  std::array<float*, kernels::kMaxQueries> output;
  for (uint32_t head = static_cast<uint32_t>(thread); head < port.heads_; head += static_cast<uint32_t>(threads)) {
    for (uint32_t query = 0; query < port.group_; ++query) {
      output[query] = f32(*dst) + (size_t{head} * port.group_ + query) * port.head_dim_;
    }
    const size_t state = size_t{head} * port.max_units_ * port.group_;
    const kernels::Partial partials{&port.partial_max_[state], &port.partial_sum_[state],
                                    &port.partial_acc_[state * port.head_dim_]};
    kernels::combine(partials, parts_of(port.store_.rows(op.layer, head), op.part_rows), port.group_, port.head_dim_,
                     output.data());
  }
}

void RaggedAttention::attend_block(const LayerOp& op, const ggml_tensor& q, ggml_tensor& dst, uint32_t head,
                                   uint32_t block, const kernels::ColumnStats* stats, float* scratch) const noexcept {
  const kernels::HeadRows rows = store_.head(op.layer, head);
  const uint32_t first = block * block_tokens(), end = std::min(tokens_, first + block_tokens());
  const uint32_t before = rows.rows - tokens_;  // rows of earlier runs: everybody sees them
  Block work;
  for (uint32_t token = first; token < end; ++token) {
    for (uint32_t member = 0; member < group_; ++member, ++work.count) {
      const size_t offset = ((size_t{token} * heads_ + head) * group_ + member) * head_dim_;
      work.query[work.count] = f32(q) + offset;
      work.output[work.count] = f32(dst) + offset;
      work.visible[work.count] = before + token + 1;
      work.in_window[work.count] = first_pos_ + static_cast<int32_t>(token) >= recording_.window_from;
    }
  }
  kernels::ColumnStats columns = stats ? *stats : kernels::ColumnStats{};
  columns.in_window = work.in_window.data();
  const kernels::Partial state{scratch, scratch + work.count, scratch + 2 * work.count};
  scratch += block_state(work.count);
  kernels::attend(rows, 0, before + end, {work.query.data(), work.count, work.visible.data(), scale_}, state,
                  stats ? &columns : nullptr, scratch);
  kernels::combine(state, 1, work.count, head_dim_, work.output.data());
}

void RaggedAttention::attend_slot(const LayerOp& op, const ggml_tensor& q, ggml_tensor& dst, uint32_t head,
                                  uint32_t slot, double& seconds, float* scratch) noexcept {
  const uint32_t rows = store_.rows(op.layer, head);
  kernels::ColumnStats stats{slot_stats(kv::Stat::kSum, head, slot), slot_stats(kv::Stat::kWindow, head, slot),
                             slot_stats(kv::Stat::kMax, head, slot), nullptr, &seconds};
  {
    const Stopwatch clearing(seconds);
    for (float* values : {stats.sum, stats.window, stats.max}) {
      if (values) std::fill_n(values, rows, 0.0F);
    }
  }
  for (uint32_t block = slot; block < blocks(); block += kSlots) attend_block(op, q, dst, head, block, &stats, scratch);
}

// Leaves the statistics of rows that are not to change at 0, which changes neither sums nor maxima.
void RaggedAttention::clear_others(std::span<float> values) const noexcept {
  if (recording_.rows_from_end == 0) return;
  const size_t before = values.size() - tokens_;
  std::ranges::fill(values.first(before - recording_.rows_from_end), 0.0F);
  std::ranges::fill(values.subspan(before - recording_.rows_to_end), 0.0F);
}

void RaggedAttention::fold_op(ggml_tensor* /*dst*/, int thread, int threads, void* data) noexcept {
  const LayerOp& op = *static_cast<LayerOp*>(data);
  RaggedAttention& port = *op.port;
  const Stopwatch folding(port.seconds(thread));
  for (uint32_t head = static_cast<uint32_t>(thread); head < port.heads_; head += static_cast<uint32_t>(threads)) {
    const uint32_t rows = port.store_.rows(op.layer, head);
    for (const kv::Stat stat : {kv::Stat::kSum, kv::Stat::kWindow, kv::Stat::kMax}) {
      for (uint32_t slot = 0; slot < kSlots && port.recorded(stat); ++slot) {
        const std::span<float> values{port.slot_stats(stat, head, slot), rows};
        port.clear_others(values);
        port.store_.add_stat(op.layer, head, stat, values);
      }
    }
  }
}

}  // namespace kvmerger::engine
