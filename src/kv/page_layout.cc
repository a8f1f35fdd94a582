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
  bias_ = value + aligned(part_bytes(value_type, head_dim));
  pos_ = bias_ + kPageRows * sizeof(float);
  mass_ = pos_ + kPageRows * sizeof(int32_t);
  bytes = mass_ + kPageRows * sizeof(float);
  for (size_t stat = 0; stat < kStats; ++stat) {
    stat_[stat] = shape.stats[stat] ? bytes : 0;
    if (shape.stats[stat]) bytes += kPageRows * sizeof(float);
  }
}

kernels::PageView PageLayout::view(std::byte* page) const {
  const float* biases = bias(page);
  const bool any = std::any_of(biases, biases + kPageRows, [](float value) { return value != 0.0F; });
  return {page, page + value, any ? biases : nullptr};
}

void PageLayout::copy_row(const std::byte* from, uint32_t from_slot, std::byte* to, uint32_t to_slot) const {
  kernels::copy_keys(key_type, head_dim, from, from_slot, to, to_slot);
  kernels::copy_values(value_type, head_dim, from + value, from_slot, to + value, to_slot);
  for (size_t part = bias_; part < bytes; part += kPageRows * sizeof(float)) {
    std::memcpy(to + part + to_slot * sizeof(float), from + part + from_slot * sizeof(float), sizeof(float));
  }
}

size_t page_bytes(const StoreShape& shape) { return PageLayout(shape).bytes; }

}  // namespace kvmerger::kv
