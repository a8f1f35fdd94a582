#include "kernels/page.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/dispatch.h"
#include "kernels/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/page.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

// Highway's own conversion truncates on targets without such an instruction; those use half.h throughout.
#undef KVM_HAS_F16_INSTRUCTIONS
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || (HWY_ARCH_ARM_A64 && HWY_TARGET == HWY_NEON)
#define KVM_HAS_F16_INSTRUCTIONS 1
#else
#define KVM_HAS_F16_INSTRUCTIONS 0
#endif

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void to_halves(const float* from, uint16_t* to, size_t count) {
  size_t done = 0;
#if KVM_HAS_F16_INSTRUCTIONS
  const hn::ScalableTag<float> floats;
  const hn::Rebind<hwy::float16_t, decltype(floats)> halves;
  const hn::Rebind<uint16_t, decltype(floats)> words;
  for (; done + hn::Lanes(floats) <= count; done += hn::Lanes(floats)) {
    const auto inside =
        hn::Clamp(hn::LoadU(floats, from + done), hn::Set(floats, -kHalfMax), hn::Set(floats, kHalfMax));
    hn::StoreU(hn::BitCast(words, hn::DemoteTo(halves, inside)), words, to + done);
  }
#endif
  for (; done < count; ++done) to[done] = half_from_float(from[done]);
}

void from_halves(const uint16_t* from, float* to, size_t count) {
  size_t done = 0;
#if KVM_HAS_F16_INSTRUCTIONS
  const hn::ScalableTag<float> floats;
  const hn::Rebind<hwy::float16_t, decltype(floats)> halves;
  const hn::Rebind<uint16_t, decltype(floats)> words;
  for (; done + hn::Lanes(floats) <= count; done += hn::Lanes(floats)) {
    hn::StoreU(hn::PromoteTo(floats, hn::BitCast(halves, hn::LoadU(words, from + done))), floats, to + done);
  }
#endif
  for (; done < count; ++done) to[done] = float_from_half(from[done]);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvmerger::kernels {
namespace {

HWY_EXPORT(to_halves);
HWY_EXPORT(from_halves);

void convert(const float* from, float* to, size_t count) { std::memcpy(to, from, count * sizeof(float)); }
void convert(const float* from, uint16_t* to, size_t count) { HWY_DYNAMIC_DISPATCH(to_halves)(from, to, count); }
void convert(const uint16_t* from, float* to, size_t count) { HWY_DYNAMIC_DISPATCH(from_halves)(from, to, count); }

// Keys of `count` rows into columns slot.. of a page: [head_dim][16].
template <typename T>
void write_keys(T* page, uint32_t head_dim, uint32_t slot, uint32_t count, const float* key, size_t stride) {
  constexpr uint32_t kChunk = 64;  // dimensions converted at once
  T chunk[kPageRows][kChunk];
  for (uint32_t first = 0; first < head_dim; first += kChunk) {
    const uint32_t width = std::min(kChunk, head_dim - first);
    for (uint32_t row = 0; row < count; ++row) convert(key + row * stride + first, chunk[row], width);
    for (uint32_t dim = 0; dim < width; ++dim) {
      T* column = page + size_t{first + dim} * kPageRows + slot;
      for (uint32_t row = 0; row < count; ++row) column[row] = chunk[row][dim];
    }
  }
}

template <typename T>
void write_values(T* page, uint32_t head_dim, uint32_t slot, uint32_t count, const float* value, size_t stride) {
  for (uint32_t row = 0; row < count; ++row) {
    convert(value + row * stride, page + size_t{slot + row} * head_dim, head_dim);
  }
}

uint16_t* scales_of(std::byte* part, uint32_t head_dim) {
  return reinterpret_cast<uint16_t*>(part + size_t{kPageRows} * head_dim);
}
const uint16_t* scales_of(const std::byte* part, uint32_t head_dim) {
  return reinterpret_cast<const uint16_t*>(part + size_t{kPageRows} * head_dim);
}

using Index = size_t (*)(uint32_t head_dim, uint32_t slot, uint32_t dim);

template <Index kIndex>
void copy_quantised(uint32_t head_dim, const std::byte* from, uint32_t from_slot, std::byte* to, uint32_t to_slot) {
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    to[kIndex(head_dim, to_slot, dim)] = from[kIndex(head_dim, from_slot, dim)];
  }
  for (uint32_t block = 0; block < scale_blocks(head_dim); ++block) {
    scales_of(to, head_dim)[block * kPageRows + to_slot] = scales_of(from, head_dim)[block * kPageRows + from_slot];
  }
}

// Dimension d of a row's block becomes round(value / scale), the scale being the largest magnitude / 127 as f16.
template <Index kIndex>
void write_quantised(std::byte* part, uint32_t head_dim, uint32_t slot, uint32_t count, const float* rows,
                     size_t stride) {
  int8_t* to = reinterpret_cast<int8_t*>(part);
  for (uint32_t index = 0; index < count; ++index) {
    const float* row = rows + index * stride;
    for (uint32_t first = 0; first < head_dim; first += kScaleBlock) {
      const uint32_t last = std::min(first + kScaleBlock, head_dim);
      float largest = 0;
      for (uint32_t dim = first; dim < last; ++dim) largest = std::max(largest, std::abs(row[dim]));
      const uint16_t half = half_from_float(largest / 127);
      const float scale = float_from_half(half), inverse = scale > 0 ? 1 / scale : 0;
      for (uint32_t dim = first; dim < last; ++dim) {
        const float steps = std::clamp(row[dim] * inverse, -127.0F, 127.0F);
        to[kIndex(head_dim, slot + index, dim)] = static_cast<int8_t>(std::lrint(steps));
      }
      scales_of(part, head_dim)[first / kScaleBlock * kPageRows + slot + index] = half;
    }
  }
}

// The first `count` rows as f32 [count, head_dim].
template <Index kIndex>
void read_quantised(const std::byte* part, uint32_t head_dim, uint32_t count, float* rows) {
  const int8_t* from = reinterpret_cast<const int8_t*>(part);
  for (uint32_t row = 0; row < count; ++row) {
    for (uint32_t dim = 0; dim < head_dim; ++dim) {
      const uint16_t scale = scales_of(part, head_dim)[dim / kScaleBlock * kPageRows + row];
      rows[size_t{row} * head_dim + dim] =
          static_cast<float>(from[kIndex(head_dim, row, dim)]) * float_from_half(scale);
    }
  }
}

// The first `count` rows of a page into key [count, head_dim].
template <typename T>
void read_keys(const T* page, uint32_t head_dim, uint32_t count, float* key) {
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    float column[kPageRows];
    convert(page + size_t{dim} * kPageRows, column, kPageRows);
    for (uint32_t row = 0; row < count; ++row) key[size_t{row} * head_dim + dim] = column[row];
  }
}

}  // namespace

void write_rows(std::byte* page_key, std::byte* page_value, RowType key_type, RowType value_type, uint32_t head_dim,
                uint32_t slot, uint32_t count, const float* key, const float* value, size_t stride) noexcept {
  choose_target();
  if (key_type == RowType::kQ8) {
    write_quantised<&q8_key_index>(page_key, head_dim, slot, count, key, stride);
  } else if (key_type == RowType::kF16) {
    write_keys(reinterpret_cast<uint16_t*>(page_key), head_dim, slot, count, key, stride);
  } else {
    write_keys(reinterpret_cast<float*>(page_key), head_dim, slot, count, key, stride);
  }
  if (value_type == RowType::kQ8) {
    write_quantised<&q8_value_index>(page_value, head_dim, slot, count, value, stride);
  } else if (value_type == RowType::kF16) {
    write_values(reinterpret_cast<uint16_t*>(page_value), head_dim, slot, count, value, stride);
  } else {
    write_values(reinterpret_cast<float*>(page_value), head_dim, slot, count, value, stride);
  }
}

void copy_keys(RowType type, uint32_t head_dim, const std::byte* from, uint32_t from_slot, std::byte* to,
               uint32_t to_slot) noexcept {
  if (type == RowType::kQ8) return copy_quantised<&q8_key_index>(head_dim, from, from_slot, to, to_slot);
  const size_t bytes = element_bytes(type);
  for (size_t dim = 0; dim < head_dim; ++dim) {
    std::memcpy(to + (dim * kPageRows + to_slot) * bytes, from + (dim * kPageRows + from_slot) * bytes, bytes);
  }
}

void copy_values(RowType type, uint32_t head_dim, const std::byte* from, uint32_t from_slot, std::byte* to,
                 uint32_t to_slot) noexcept {
  if (type == RowType::kQ8) return copy_quantised<&q8_value_index>(head_dim, from, from_slot, to, to_slot);
  const size_t bytes = element_bytes(type) * head_dim;
  std::memcpy(to + to_slot * bytes, from + from_slot * bytes, bytes);
}

void read_rows(const HeadRows& head, float* key, float* value) noexcept {
  choose_target();
  for (uint32_t first = 0; first < head.rows; first += kPageRows) {
    const PageView& page = head.pages[first / kPageRows];
    const uint32_t count = std::min(kPageRows, head.rows - first);
    const size_t offset = size_t{first} * head.head_dim;
    if (head.key_type == RowType::kQ8) {
      read_quantised<&q8_key_index>(page.key, head.head_dim, count, key + offset);
    } else if (head.key_type == RowType::kF16) {
      read_keys(reinterpret_cast<const uint16_t*>(page.key), head.head_dim, count, key + offset);
    } else {
      read_keys(reinterpret_cast<const float*>(page.key), head.head_dim, count, key + offset);
    }
    const size_t values = size_t{count} * head.head_dim;
    if (head.value_type == RowType::kQ8) {
      read_quantised<&q8_value_index>(page.value, head.head_dim, count, value + offset);
    } else if (head.value_type == RowType::kF16) {
      convert(reinterpret_cast<const uint16_t*>(page.value), value + offset, values);
    } else {
      convert(reinterpret_cast<const float*>(page.value), value + offset, values);
    }
  }
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
