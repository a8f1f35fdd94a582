#include "kv/page_layout.h"

#include <algorithm>
#include <cstring>

namespace kvmerger::kv {
namespace {

constexpr size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

PageLayout::PageLayout(const StoreShape& shape)
    : head_dim(shape.head_dim), key_type(shape.key_type), value_type(shape.value_type) {
  value = aligned(part_bytes(key_type, head_dim));
  data_bytes = value + aligned(part_bytes(value_type, head_dim));
  side_bytes = 3 * kPerRow;
  for (size_t stat = 0; stat < kStats; ++stat) {
    stat_[stat] = shape.stats[stat] ? side_bytes : 0;
    if (shape.stats[stat]) side_bytes += kPerRow;
  }
}

kernels::PageView PageLayout::view(const Page& page) const {
  const float* biases = bias(page);
  const bool any = std::any_of(biases, biases + kPageRows, [](float value) { return value != 0.0F; });
  return {page.data, page.data + value, any ? biases : nullptr};
}

void PageLayout::copy_row(const Page& from, uint32_t from_slot, const Page& to, uint32_t to_slot) const {
  kernels::copy_keys(key_type, head_dim, from.data, from_slot, to.data, to_slot);
  kernels::copy_values(value_type, head_dim, from.data + value, from_slot, to.data + value, to_slot);
  for (size_t part = 0; part < side_bytes; part += kPerRow) {
    std::memcpy(to.side + part + to_slot * sizeof(float), from.side + part + from_slot * sizeof(float), sizeof(float));
  }
}

size_t page_bytes(const StoreShape& shape) {
  const PageLayout layout(shape);
  return layout.data_bytes + layout.side_bytes;
}

}  // namespace kvmerger::kv
