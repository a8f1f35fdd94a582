// The attention port on the CPU: appends to and attends over the store's pages, one list per KV head.
// Owns the buffers of a run; knows nothing of policies. Results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/reference_queries.h"
#include "kernels/attention.h"
#include "kv/store.h"
#include "model/attention_port.h"
#include "model/config.h"

struct ggml_tensor;

namespace kvmerger::engine {

class RaggedAttention final : public model::AttentionPort {
 public:
  // What is recorded while a graph runs.
  struct Recording {
    bool stats[kv::kStats] = {};  // only those the store has room for
    int32_t window_from = 0;      // queries at positions >= window_from count for the window
    bool queries = false;         // reference queries are sampled
    // Of the rows that were there before the run, counted from their end: those whose statistics change. All others,
    // and the new rows, stay as they are. Both 0: all rows.
    uint32_t rows_from_end = 0, rows_to_end = 0;

    bool any_stat() const { return stats[0] || stats[1] || stats[2]; }
  };

  RaggedAttention(const model::DecoderConfig& config, kv::Store& store, ReferenceQueries& queries, uint32_t threads);
  ~RaggedAttention() override;

  ggml_tensor* attend(ggml_context* context, uint32_t layer, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v) override;

  // Before every graph run: `tokens` rows will be appended to every head, the first at first_pos. Reserves their pages
  // and all buffers; throws Error when memory does not suffice.
  void begin_run(uint32_t tokens, int32_t first_pos);
  // From the next begin_run on, until told otherwise. Only graphs built while statistics are recorded record them.
  void record(const Recording& recording);
  // Spent on statistics so far, beyond the attention itself: of all threads together, divided by their number.
  double statistics_seconds() const;

 private:
  struct LayerOp;  // what a custom op gets as userdata
  struct Block;

  static void append_op(ggml_tensor* dst, int thread, int threads, void* data) noexcept;
  static void attend_op(ggml_tensor* dst, int thread, int threads, void* data) noexcept;
  static void merge_op(ggml_tensor* dst, int thread, int threads, void* data) noexcept;
  static void fold_op(ggml_tensor* dst, int thread, int threads, void* data) noexcept;

  void attend_block(const LayerOp& op, const ggml_tensor& q, ggml_tensor& dst, uint32_t head, uint32_t block,
                    const kernels::ColumnStats* stats, float* scratch) const noexcept;
  void attend_slot(const LayerOp& op, const ggml_tensor& q, ggml_tensor& dst, uint32_t head, uint32_t slot,
                   double& seconds, float* scratch) noexcept;
  void attend_part(const LayerOp& op, const ggml_tensor& q, uint32_t head, uint32_t part, float* scratch) noexcept;
  void sample_queries(const LayerOp& op, const ggml_tensor& q) noexcept;
  bool recorded(kv::Stat stat) const { return recording_.stats[static_cast<size_t>(stat)]; }
  float* slot_stats(kv::Stat stat, uint32_t head, uint32_t slot) noexcept;
  void clear_others(std::span<float> values) const noexcept;
  bool decoding() const { return tokens_ == 1 && !recording_.any_stat(); }
  uint32_t block_tokens() const;
  uint32_t blocks() const;
  size_t block_state(uint32_t queries) const;
  uint32_t part_rows(uint32_t layer) const;
  uint32_t units_of(const LayerOp& op, uint32_t head) const;
  void split(LayerOp& op);
  double& seconds(int thread) noexcept { return statistics_seconds_[static_cast<size_t>(thread)]; }

  const uint32_t heads_, group_, head_dim_, threads_;  // heads_: KV heads
  const float scale_;
  kv::Store& store_;
  std::vector<std::unique_ptr<LayerOp>> layers_;
  ReferenceQueries& queries_;
  Recording recording_;

  // Of the present run.
  uint32_t tokens_ = 0;
  int32_t first_pos_ = 0;
  uint32_t max_rows_ = 0, max_units_ = 0;  // of one head
  size_t scratch_floats_ = 0;
  std::vector<float> scratch_;                                  // [threads, scratch_floats_]
  std::vector<float> partial_max_, partial_sum_, partial_acc_;  // [heads, parts, group (, head_dim)]
  std::vector<float> slot_stats_[kv::kStats];                   // [heads, slots, max_rows_]

  std::vector<double> statistics_seconds_;  // [threads] of all runs
};

}  // namespace kvmerger::engine
