// The memory layout of cache rows that kernels read: pages of 16 rows of one KV head. Knows no owner and no table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger::kernels {

inline constexpr uint32_t kPageRows = 16;

enum class RowType : uint8_t { kF32, kF16, kQ8 };
inline constexpr const char* kRowTypeNames[] = {"f32", "f16", "q8_0"};  // in that order, as llama.cpp calls them
constexpr const char* name_of(RowType type) { return kRowTypeNames[static_cast<size_t>(type)]; }

constexpr size_t element_bytes(RowType type) { return type == RowType::kF32 ? 4 : type == RowType::kF16 ? 2 : 1; }

// q8_0: a value is an int8 times the scale, f16, of its block: 32 consecutive dimensions of one row. The scales lie
// behind the page's keys or values as [blocks][16], since kernels take 16 rows at once. What kernels add up lies side
// by side in pairs, as instructions that multiply and add pairs of int16 want it.
inline constexpr uint32_t kScaleBlock = 32;
constexpr uint32_t scale_blocks(uint32_t head_dim) { return (head_dim + kScaleBlock - 1) / kScaleBlock; }

// Where a q8_0 key keeps a dimension: [head_dim / 2][16][2], pairs of dimensions; the last of an odd number is alone.
constexpr size_t q8_key_index(uint32_t head_dim, uint32_t slot, uint32_t dim) {
  const uint32_t first = dim / 2 * 2, width = head_dim - first < 2 ? 1 : 2;
  return size_t{first} * kPageRows + size_t{slot} * width + (dim - first);
}
// And a value: [head_dim / 16][8][16][2], panels of 16 dimensions with pairs of the slots s and s + 8; the last panel
// may be narrower.
constexpr size_t q8_value_index(uint32_t head_dim, uint32_t slot, uint32_t dim) {
  const uint32_t first = dim / 16 * 16, width = head_dim - first < 16 ? head_dim - first : 16;
  const uint32_t half = kPageRows / 2;
  return size_t{first} * kPageRows + (size_t{slot % half} * width + (dim - first)) * 2 + slot / half;
}

// Bytes of all keys, or of all values, of one page.
constexpr size_t part_bytes(RowType type, uint32_t head_dim) {
  const size_t scales = type == RowType::kQ8 ? scale_blocks(head_dim) * 2 : 0;
  return kPageRows * (head_dim * element_bytes(type) + scales);
}

// Where the parts of one page lie.
struct PageView {
  const std::byte* key;    // [head_dim][16]: transposed, so that 16 rows are scored at once; q8_0: q8_key_index
  const std::byte* value;  // [16][head_dim]; q8_0: q8_value_index
  const float* bias;       // [16] additive logit bias, or null when all are 0 (such pages cost nothing extra)
};

// The rows of one KV head: `rows` of them in pages 0, 1, ...; only the last page may be partly filled. Slots behind
// the last row hold finite values.
struct HeadRows {
  const PageView* pages;
  uint32_t rows;
  uint32_t head_dim;
  RowType key_type, value_type;
};

// Writes `count` rows into slots slot.. of one page (slot + count <= 16). key, value: rows of head_dim floats, row r at
// key + r * stride.
void write_rows(std::byte* page_key, std::byte* page_value, RowType key_type, RowType value_type, uint32_t head_dim,
                uint32_t slot, uint32_t count, const float* key, const float* value, size_t stride) noexcept;

// Copies one row bit by bit from slot to slot, maybe of different pages. from, to: begin of the keys and of the values.
void copy_keys(RowType type, uint32_t head_dim, const std::byte* from, uint32_t from_slot, std::byte* to,
               uint32_t to_slot) noexcept;
void copy_values(RowType type, uint32_t head_dim, const std::byte* from, uint32_t from_slot, std::byte* to,
                 uint32_t to_slot) noexcept;

// Reads all rows of a head back as f32: key, value [rows, head_dim].
void read_rows(const HeadRows& head, float* key, float* value) noexcept;

}  // namespace kvmerger::kernels
