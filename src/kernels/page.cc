#include "kernels/page.h"

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
  if (key_type == RowType::kF16) {
    write_keys(reinterpret_cast<uint16_t*>(page_key), head_dim, slot, count, key, stride);
  } else {
    write_keys(reinterpret_cast<float*>(page_key), head_dim, slot, count, key, stride);
  }
  if (value_type == RowType::kF16) {
    write_values(reinterpret_cast<uint16_t*>(page_value), head_dim, slot, count, value, stride);
  } else {
    write_values(reinterpret_cast<float*>(page_value), head_dim, slot, count, value, stride);
  }
}

void read_rows(const HeadRows& head, float* key, float* value) noexcept {
  choose_target();
  for (uint32_t first = 0; first < head.rows; first += kPageRows) {
    const PageView& page = head.pages[first / kPageRows];
    const uint32_t count = std::min(kPageRows, head.rows - first);
    const size_t offset = size_t{first} * head.head_dim;
    if (head.key_type == RowType::kF16) {
      read_keys(reinterpret_cast<const uint16_t*>(page.key), head.head_dim, count, key + offset);
    } else {
      read_keys(reinterpret_cast<const float*>(page.key), head.head_dim, count, key + offset);
    }
    const size_t values = size_t{count} * head.head_dim;
    if (head.value_type == RowType::kF16) {
      convert(reinterpret_cast<const uint16_t*>(page.value), value + offset, values);
    } else {
      convert(reinterpret_cast<const float*>(page.value), value + offset, values);
    }
  }
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
