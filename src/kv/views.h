// What a method sees of one layer's rows: read-only, f32, independent of how the store keeps them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace kvmerger::kv {

// A matrix of f32 rows, not owned.
struct Rows {
  const float* data = nullptr;
  uint32_t count = 0, dim = 0;

  std::span<const float> operator[](uint32_t row) const { return {data + size_t{row} * dim, dim}; }
};

struct HeadView {
  Rows key, value;               // [n, head_dim], keys after RoPE
  std::span<const int32_t> pos;  // [n] strictly increasing
  std::span<const float> mass;   // [n] tokens merged into the row; 1 if untouched
  std::span<const float> bias;   // [n] additive logit bias; 0 if untouched
  // Attention received from the queries of the prompt, summed over the query heads of the group; empty unless asked
  // for.
  std::span<const float> attn_sum;  // [n] over all queries
  std::span<const float> attn_win;  // [n] over the last Needs::window queries
  std::span<const float> attn_max;  // [n] the largest single probability from a query that repeated the text
  // [r, head_dim] reference queries, after RoPE, of all query heads of the group: queries of the text, replayed at
  // positions behind it. They stand for questions not asked yet. Empty unless asked for.
  Rows query;
  uint32_t query_heads = 1;  // of the group: each has r / query_heads of the queries, one head's after another's

  uint32_t rows() const { return key.count; }
};

struct LayerView {
  uint32_t index = 0, count = 0;  // this layer, and how many the model has
  std::vector<HeadView> heads;    // one per KV head; lengths may differ
};

}  // namespace kvmerger::kv
