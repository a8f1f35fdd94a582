// The cache: a page table per (layer, KV head), all pages from one pool. Owns rows and their metadata; knows no model,
// policy or sequence. Only append, apply and truncate change rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/page.h"
#include "kv/plan.h"
#include "kv/views.h"

namespace kvmerger::kv {

using kernels::RowType;

// Attention statistics a store can keep per row.
enum class Stat : uint8_t { kSum, kWindow, kMax };
inline constexpr uint32_t kStats = 3;

struct StoreShape {
  uint32_t layers = 0, heads = 0;  // heads: KV heads per layer
  uint32_t head_dim = 0;
  RowType key_type = RowType::kF16, value_type = RowType::kF16;
  bool stats[kStats] = {};  // which statistics have room

  bool operator==(const StoreShape&) const = default;
};

// Bytes of one page: K, V, position, bias and mass of 16 rows, and the statistics asked for.
size_t page_bytes(const StoreShape& shape);

struct StoreBytes {
  size_t used;      // pages that hold rows or are reserved for them
  size_t peak;      // the most that was ever used
  size_t resident;  // memory the pool holds from the system
};

class Store {
 public:
  explicit Store(const StoreShape& shape);  // throws Error on a shape it cannot hold
  ~Store();
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;

  const StoreShape& shape() const;
  uint32_t rows(uint32_t layer, uint32_t head) const;
  uint64_t total_rows() const;  // over all layers and heads

  // Makes room for `count` more rows in every head. Throws Error with the figures when memory does not suffice; then
  // nothing has changed.
  void reserve(uint32_t count);
  // Appends rows of tokens at positions first_pos, first_pos + 1, ... to one head, into reserved room (aborts without
  // it). key, value: row r at pointer + r * stride floats. Safe from several threads for different heads.
  void append(uint32_t layer, uint32_t head, uint32_t count, const float* key, const float* value, size_t stride,
              int32_t first_pos) noexcept;
  // The pages of one head as kernels read them; valid until the next change of that head.
  kernels::HeadRows head(uint32_t layer, uint32_t head) const;
  // Adds values [rows] to a statistic of one head (kMax: takes the larger). The store must have room for it.
  void add_stat(uint32_t layer, uint32_t head, Stat stat, std::span<const float> values) noexcept;
  // Sets a statistic to 0 everywhere, e.g. the window when a new window begins.
  void clear_stat(Stat stat) noexcept;

  // A copy of one layer as f32; LayerData owns what its view points to.
  struct LayerData {
    LayerView view;
    std::vector<std::vector<float>> floats;
    std::vector<std::vector<int32_t>> ints;
  };
  LayerData view(uint32_t layer) const;

  // Replaces the layer's rows by those of the plan (validated against view(layer)). Writes fresh pages, then swaps and
  // gives the old ones back. Mass and sums of a new row are those of its key's sources added up, maxima their largest.
  // Throws Error on an invalid plan or when memory does not suffice; then nothing has changed.
  void apply(uint32_t layer, const LayerPlan& plan);

  // Drops all rows at positions >= end. Throws Error when a row that stays or goes was changed by apply from tokens on
  // both sides, i.e. when end < the end position at the last apply; then nothing has changed.
  void truncate(int32_t end);
  // Gives reserved but unused pages back.
  void shrink();

  StoreBytes bytes() const;
  // Makes the pool refuse to hold more than this, to see what happens then.
  void set_limit_for_test(size_t bytes);

  Store copy() const;  // throws Error when memory does not suffice

  // Raw form for snapshots: save calls sink with consecutive pieces, load calls source to fill buffers. The bytes
  // depend on nothing but rows and shape. load needs an empty store of the same shape; throws Error on nonsense.
  void save(const std::function<void(const void*, size_t)>& sink) const;
  void load(const std::function<void(void*, size_t)>& source);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvmerger::kv
