// Where the parts of one page lie, and the few things one does with them. Internal to kv.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kv/store.h"

namespace kvmerger::kv {

using kernels::kPageRows;

// K and V as kernels read them, then per row: bias, position, mass, and the statistics asked for. 64-byte aligned
// parts.
struct PageLayout {
  explicit PageLayout(const StoreShape& shape);

  float* bias(std::byte* page) const { return reinterpret_cast<float*>(page + bias_); }
  int32_t* pos(std::byte* page) const { return reinterpret_cast<int32_t*>(page + pos_); }
  float* mass(std::byte* page) const { return reinterpret_cast<float*>(page + mass_); }
  // Null when the store keeps no such statistic.
  float* stat(std::byte* page, Stat stat) const {
    const size_t offset = stat_[static_cast<size_t>(stat)];
    return offset == 0 ? nullptr : reinterpret_cast<float*>(page + offset);
  }
  kernels::PageView view(std::byte* page) const;  // with the bias only when one is not 0
  // Copies a row bit by bit: keys, values and metadata.
  void copy_row(const std::byte* from, uint32_t from_slot, std::byte* to, uint32_t to_slot) const;

  uint32_t head_dim;
  RowType key_type, value_type;
  size_t value, bytes;  // offset of V; size of a page

 private:
  size_t bias_, pos_, mass_, stat_[kStats];
};

}  // namespace kvmerger::kv
