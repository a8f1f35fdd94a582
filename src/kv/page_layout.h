// Where the parts of one page lie, and the few things one does with them. Internal to kv.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kv/pool.h"
#include "kv/store.h"

namespace kvmerger::kv {

using kernels::kPageRows;

// A page's data: K and V as kernels read them. Beside it, per row: bias, position, mass, and the statistics asked for.
// All 64-byte aligned.
struct PageLayout {
  explicit PageLayout(const StoreShape& shape);

  float* bias(const Page& page) const { return reinterpret_cast<float*>(page.side); }
  int32_t* pos(const Page& page) const { return reinterpret_cast<int32_t*>(page.side + kPerRow); }
  float* mass(const Page& page) const { return reinterpret_cast<float*>(page.side + 2 * kPerRow); }
  // Null when the store keeps no such statistic.
  float* stat(const Page& page, Stat stat) const {
    const size_t offset = stat_[static_cast<size_t>(stat)];
    return offset == 0 ? nullptr : reinterpret_cast<float*>(page.side + offset);
  }
  kernels::PageView view(const Page& page) const;  // with the bias only when one is not 0
  // Copies a row bit by bit: keys, values and metadata.
  void copy_row(const Page& from, uint32_t from_slot, const Page& to, uint32_t to_slot) const;

  uint32_t head_dim;
  RowType key_type, value_type;
  size_t value;                   // offset of V
  size_t data_bytes, side_bytes;  // sizes of a page's parts

 private:
  static constexpr size_t kPerRow = kPageRows * sizeof(float);  // of one number per row

  size_t stat_[kStats];
};

}  // namespace kvmerger::kv
