// The memory layout of cache rows that kernels read: pages of 16 rows of one KV head. Knows no owner and no table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger::kernels {

inline constexpr uint32_t kPageRows = 16;

enum class RowType : uint8_t { kF32, kF16 };

constexpr size_t value_bytes(RowType type) { return type == RowType::kF32 ? 4 : 2; }

// Where the parts of one page lie.
struct PageView {
  const std::byte* key;    // [head_dim][16]: transposed, so that 16 rows are scored at once
  const std::byte* value;  // [16][head_dim]
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

// Reads all rows of a head back as f32: key, value [rows, head_dim].
void read_rows(const HeadRows& head, float* key, float* value) noexcept;

}  // namespace kvmerger::kernels
