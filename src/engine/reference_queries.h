// A uniform sample of the queries a text asks while it is read, kept for every layer. Which tokens are sampled depends
// on their positions alone, so that batches make no difference. Replayed behind the text the queries stand for
// questions not asked yet.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/model.h"

namespace kvmerger::engine {

class ReferenceQueries {
 public:
  struct Pick {
    uint32_t token, slot;  // of the run; where its queries go
  };

  ReferenceQueries() = default;
  // tokens: how many to keep; 0: none.
  ReferenceQueries(const model::DecoderConfig& config, uint32_t tokens);

  uint32_t count() const { return static_cast<uint32_t>(positions_.size()); }
  size_t bytes() const { return data_.capacity() * sizeof(float); }
  // Chooses among `tokens` new ones at first_pos, first_pos + 1, ...; a pick may take the place of an earlier token.
  void begin_run(uint32_t tokens, int32_t first_pos);
  void no_run() { picks_.clear(); }  // nothing of the next run is sampled
  std::span<const Pick> picks() const { return picks_; }
  // Where the queries of a layer go: [heads * head_dim], after RoPE.
  float* slot(uint32_t layer, uint32_t slot);
  void truncate(int32_t end);  // forgets tokens at positions >= end

  // [layers * kv_heads] of [group * r, head_dim], query head by query head: sampled queries, rotated on to positions in
  // the kFuture tokens from `end` on. r: `queries`, or all of a smaller sample; the same ones whatever else was
  // sampled.
  std::vector<std::vector<float>> replayed(const model::Model& model, int32_t end, uint32_t queries) const;

 private:
  // The tokens with the smallest of these are the sample.
  static uint64_t priority(int32_t position);
  // The slots of the first `tokens` tokens of the sample, by position.
  std::vector<uint32_t> chosen(uint32_t tokens) const;

  static constexpr uint32_t kFuture = 512;
  static constexpr int32_t kSinks = 4;  // first tokens, whose queries are like no others: only a last resort

  uint32_t capacity_ = 0, layers_ = 0, width_ = 0;  // width_: heads * head_dim
  std::vector<int32_t> positions_;                  // [count]
  std::vector<Pick> picks_;
  std::vector<float> data_;  // [layers, capacity, width]
};

}  // namespace kvmerger::engine
