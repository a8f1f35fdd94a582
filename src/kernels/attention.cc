// Blocked attention over pages, for every instruction set with vectors. Rows go by in tiles of four pages. Per tile and
// block of queries: logits = Q K^T, the online softmax turns them into probabilities relative to the running maximum, and
// acc = acc * factor + P V. Both products are one micro-kernel with its sums in registers.
#include "kernels/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef KVMERGER_KERNELS_ATTENTION_ONCE
#define KVMERGER_KERNELS_ATTENTION_ONCE
namespace kvmerger::kernels {
namespace {

constexpr uint32_t kTilePages = 4;
constexpr uint32_t kTileRows = kTilePages * kPageRows;

constexpr size_t round_up(size_t count) { return (count + 15) / 16 * 16; }
constexpr uint32_t pages_of(uint32_t rows) { return (rows + kPageRows - 1) / kPageRows; }
constexpr uint32_t tiles_of(uint32_t rows) { return (rows + kTileRows - 1) / kTileRows; }

// Vectors that straddle cache lines cost double, so scratch is used from a multiple of 64 bytes on.
constexpr size_t kAlignment = 64;
float* aligned(float* scratch) {
  const size_t behind = reinterpret_cast<uintptr_t>(scratch) % kAlignment;
  return scratch + (kAlignment - behind) % kAlignment / sizeof(float);
}

// Where attend keeps its intermediate results; all offsets in floats and multiples of 16.
struct ScratchLayout {
  size_t padded_dim;                                        // columns of V and acc, whole panels of 16
  size_t packed, acc, keys, values, probabilities, maxima;  // offsets
  size_t total;                                             // with room for alignment

  ScratchLayout(uint32_t queries, uint32_t rows, uint32_t head_dim, bool with_stats)
      : padded_dim(round_up(head_dim)), packed(0) {
    const size_t tiles = with_stats ? std::max(1u, tiles_of(rows)) : 1;
    acc = packed + round_up(size_t{queries} * head_dim);
    keys = acc + queries * padded_dim;
    values = keys + size_t{kTileRows} * head_dim;
    probabilities = values + kTileRows * padded_dim;
    maxima = probabilities + tiles * queries * kTileRows;
    total = maxima + tiles * queries + kAlignment / sizeof(float);
  }
};

}  // namespace
}  // namespace kvmerger::kernels
#endif  // KVMERGER_KERNELS_ATTENTION_ONCE

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void attend_target(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
                   const ColumnStats* stats, float* /*scratch*/) {
  attend_reference(head, begin, end, queries, out, stats);
}

void add_scaled(const float* from, float scale, size_t count, float* to) {
  for (size_t index = 0; index < count; ++index) to[index] += scale * from[index];
}

#else
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;
using Half = hwy::float16_t;
constexpr Floats kFloats;
constexpr uint32_t kLanes = hn::MaxLanes(kFloats);
constexpr int kVectors = 16 / kLanes;  // of one panel, that is 16 columns
// Vectors of sums that the registers hold beside the operands, and the queries of one block that follow from it.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr int kSums = 24;
constexpr uint32_t kMaxBlock = 12;
#elif HWY_TARGET == HWY_NEON
constexpr int kSums = 16;
constexpr uint32_t kMaxBlock = 4;
#else
constexpr int kSums = 12;
constexpr uint32_t kMaxBlock = kSums / kVectors;
#endif
// With an instruction for it, converting f16 in the micro-kernel is faster even when several blocks of queries do it again
// (AVX2, 48 queries: 78 against 68 GFLOP/s).
constexpr bool kConvertsInRegisters = HWY_TARGET != HWY_SSE4;

// Panels worked on at once by a block of M queries; more of them hide latency when the block is small.
constexpr int panels_at_once(int queries) {
  int panels = static_cast<int>(kTilePages);
  while (panels > 1 && queries * kVectors * panels > kSums) panels /= 2;
  return panels;
}

HWY_INLINE Vector load(const float* from) { return hn::LoadU(kFloats, from); }
HWY_INLINE Vector load(const Half* from) {
  return hn::PromoteTo(kFloats, hn::LoadU(hn::Rebind<Half, Floats>(), from));
}

// ---- The micro-kernel -------------------------------------------------------------------------------------------------

template <int M, int P>
struct Sums {
  Vector at[M][P * kVectors];

  HWY_INLINE void clear() {
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      HWY_UNROLL(16)
      for (int vector = 0; vector < P * kVectors; ++vector) at[row][vector] = hn::Zero(kFloats);
    }
  }

  // += A [M, depth] * panels [depth, 16 each]. Element (row, k) of A is at row * kRow + k * kColumn; row k of a panel is
  // at k * stride. Meanwhile `ahead`, panels needed later, comes into the cache.
  template <size_t kRow, size_t kColumn, class T>
  HWY_INLINE void multiply_add(const float* a, size_t depth, const T* const (&panel)[P], const T* const (&ahead)[P],
                               size_t stride) {
    for (size_t k = 0; k < depth; ++k, a += kColumn) {
      HWY_UNROLL(16)
      for (int index = 0; index < P; ++index) hwy::Prefetch(ahead[index] + k * stride);
      if constexpr (M < P * kVectors) {
        add_products<kRow>(a, panel, k * stride);
      } else {
        add_products_by_row<kRow>(a, panel, k * stride);
      }
    }
  }

 private:
  // One step of k. The registers are just enough when the shorter side of the block of sums waits in them and the other
  // passes through: here M elements of A wait.
  template <size_t kRow, class T>
  HWY_INLINE void add_products(const float* a, const T* const (&panel)[P], size_t offset) {
    Vector left[M];
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) left[row] = hn::Set(kFloats, a[static_cast<size_t>(row) * kRow]);
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) {
      const Vector b = load_vector(panel, vector, offset);
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) at[row][vector] = hn::MulAdd(left[row], b, at[row][vector]);
    }
  }

  template <size_t kRow, class T>
  HWY_INLINE void add_products_by_row(const float* a, const T* const (&panel)[P], size_t offset) {
    Vector b[P * kVectors];
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) b[vector] = load_vector(panel, vector, offset);
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      const Vector left = hn::Set(kFloats, a[static_cast<size_t>(row) * kRow]);
      HWY_UNROLL(16)
      for (int vector = 0; vector < P * kVectors; ++vector) {
        at[row][vector] = hn::MulAdd(left, b[vector], at[row][vector]);
      }
    }
  }

  template <class T>
  static HWY_INLINE Vector load_vector(const T* const (&panel)[P], int vector, size_t offset) {
    return load(panel[vector / kVectors] + offset + static_cast<size_t>(vector % kVectors) * kLanes);
  }
};

// logits [M, kTileRows], columns of P pages = packed queries [head_dim, M] * keys [head_dim, 16] of each page.
template <int M, int P, class T>
HWY_INLINE void score_panels(const float* packed, uint32_t head_dim, const T* const* keys, const T* const* ahead,
                             float* logits) {
  const T *panel[P], *next[P];
  for (int page = 0; page < P; ++page) panel[page] = keys[page], next[page] = ahead[page];
  Sums<M, P> sums;
  sums.clear();
  sums.template multiply_add<1, M>(packed, head_dim, panel, next, kPageRows);
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) {
      hn::StoreU(sums.at[row][vector], kFloats, logits + row * kTileRows + vector * kLanes);
    }
  }
}

template <int M, class T>
void score_pages(const float* packed, uint32_t head_dim, const void* const* keys, const void* const* ahead,
                 uint32_t pages, float* logits) {
  constexpr uint32_t kPanels = panels_at_once(M);
  const T* const* typed = reinterpret_cast<const T* const*>(keys);
  const T* const* next = reinterpret_cast<const T* const*>(ahead);
  uint32_t page = 0;
  for (; page + kPanels <= pages; page += kPanels) {
    score_panels<M, kPanels>(packed, head_dim, typed + page, next + page, logits + page * kPageRows);
  }
  for (; page < pages; ++page) score_panels<M, 1>(packed, head_dim, typed + page, next + page, logits + page * kPageRows);
}

// What the value product reads: rows of probabilities [M, kTileRows] and V [rows, stride] in pages of 16 rows.
struct ValueTile {
  const float* probabilities;
  const void* const* values;
  const void* const* ahead;
  size_t stride;
  uint32_t rows;
};

// acc [M, columns of P panels] = acc * factor + P V, from column on.
template <int M, int P, class T>
HWY_INLINE void value_panels(const ValueTile& tile, const float* factors, size_t column, float* acc,
                             size_t acc_stride) {
  Sums<M, P> sums;
  sums.clear();
  for (uint32_t first = 0; first < tile.rows; first += kPageRows) {
    const T *panel[P], *next[P];
    const T* page = static_cast<const T*>(tile.values[first / kPageRows]) + column;
    const T* ahead = static_cast<const T*>(tile.ahead[first / kPageRows]) + column;
    for (int index = 0; index < P; ++index) panel[index] = page + index * 16, next[index] = ahead + index * 16;
    const size_t depth = std::min(kPageRows, tile.rows - first);
    sums.template multiply_add<kTileRows, 1>(tile.probabilities + first, depth, panel, next, tile.stride);
  }
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) {
    const Vector factor = hn::Set(kFloats, factors[row]);
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) {
      float* to = acc + static_cast<size_t>(row) * acc_stride + column + static_cast<size_t>(vector) * kLanes;
      hn::StoreU(hn::MulAdd(hn::LoadU(kFloats, to), factor, sums.at[row][vector]), kFloats, to);
    }
  }
}

template <int M, class T>
void value_columns(const ValueTile& tile, const float* factors, float* acc, size_t columns) {
  constexpr size_t kColumns = panels_at_once(M) * 16;
  size_t column = 0;
  for (; column + kColumns <= columns; column += kColumns) {
    value_panels<M, panels_at_once(M), T>(tile, factors, column, acc, columns);
  }
  for (; column < columns; column += 16) value_panels<M, 1, T>(tile, factors, column, acc, columns);
}

using ScorePages = void (*)(const float*, uint32_t, const void* const*, const void* const*, uint32_t, float*);
using ValueColumns = void (*)(const ValueTile&, const float*, float*, size_t);

template <class T, int... kMinusOne>
constexpr std::array<ScorePages, kMaxBlock> score_table(std::integer_sequence<int, kMinusOne...>) {
  return {&score_pages<kMinusOne + 1, T>...};
}
template <class T, int... kMinusOne>
constexpr std::array<ValueColumns, kMaxBlock> value_table(std::integer_sequence<int, kMinusOne...>) {
  return {&value_columns<kMinusOne + 1, T>...};
}
// By queries of the block, minus one.
template <class T>
constexpr std::array<ScorePages, kMaxBlock> kScorePages = score_table<T>(std::make_integer_sequence<int, kMaxBlock>());
template <class T>
constexpr std::array<ValueColumns, kMaxBlock> kValueColumns = value_table<T>(std::make_integer_sequence<int, kMaxBlock>());

// ---- Softmax ----------------------------------------------------------------------------------------------------------

// e^x for x <= 0 within 2 units in the last place; 0 below -87.3, where e^x would be subnormal.
HWY_INLINE Vector exp_of_negative(Vector x) {
  const Vector magic = hn::Set(kFloats, 0x1.8p23f);  // adding it rounds to a whole number, found in the low bits
  const Vector shifted = hn::MulAdd(x, hn::Set(kFloats, 0x1.715476p+0f), magic);
  const Vector whole = hn::Sub(shifted, magic);
  const Vector rest = hn::NegMulAdd(whole, hn::Set(kFloats, 0x1.7f7d1cp-20f),  // ln 2 in two parts
                                    hn::NegMulAdd(whole, hn::Set(kFloats, 0x1.62e4p-1f), x));
  const Vector square = hn::Mul(rest, rest);
  const Vector high = hn::MulAdd(hn::Set(kFloats, 0x1.0e4020p-7f), rest, hn::Set(kFloats, 0x1.573e2ep-5f));
  const Vector middle = hn::MulAdd(hn::Set(kFloats, 0x1.555e66p-3f), rest, hn::Set(kFloats, 0x1.fffdb6p-2f));
  const Vector low = hn::Mul(hn::Set(kFloats, 0x1.ffffecp-1f), rest);
  const Vector fraction = hn::MulAdd(hn::MulAdd(high, square, middle), square, low);  // e^rest - 1
  const hn::RebindToSigned<Floats> integers;
  const Vector power = hn::BitCast(kFloats, hn::Add(hn::ShiftLeft<23>(hn::BitCast(integers, shifted)),
                                                    hn::BitCast(integers, hn::Set(kFloats, 1.0f))));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(kFloats, -87.3f)), hn::MulAdd(power, fraction, power));
}

// Columns that a query sees of a tile, as masks.
HWY_INLINE hn::Mask<Floats> seen_mask(uint32_t column, uint32_t seen) {
  return hn::FirstN(kFloats, std::min(seen - std::min(column, seen), kLanes));
}

// Largest of one query's logits [columns].
HWY_INLINE float largest_logit(const float* logits, uint32_t columns) {
  Vector largest = load(logits);
  for (uint32_t column = kLanes; column < columns; column += kLanes) largest = hn::Max(largest, load(logits + column));
  return hn::GetLane(hn::MaxOfLanes(kFloats, largest));
}

// Adds biases to one query's logits [pages * 16], holds them within the limit and hides the columns from `seen` on.
HWY_INLINE void finish_logits(float* logits, uint32_t pages, uint32_t seen, const float* const* bias) {
  const Vector limit = hn::Set(kFloats, kLogitLimit);
  const Vector hidden = hn::Set(kFloats, std::numeric_limits<float>::lowest());
  for (uint32_t page = 0; page < pages; ++page) {
    for (uint32_t lane = 0; lane < kPageRows; lane += kLanes) {
      const uint32_t column = page * kPageRows + lane;
      Vector logit = load(logits + column);
      if (bias[page] != nullptr) logit = hn::Add(logit, load(bias[page] + lane));
      logit = hn::Max(hn::Min(logit, limit), hn::Neg(limit));
      if (column + kLanes > seen) logit = hn::IfThenElse(seen_mask(column, seen), logit, hidden);
      hn::StoreU(logit, kFloats, logits + column);
    }
  }
}

// Running state of one query.
struct Running {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

// One query's logits of a tile become exp(logit - running maximum). Returns the factor for what was summed before.
HWY_INLINE float softmax_tile(float* logits, uint32_t pages, uint32_t seen, bool biased, const float* const* bias,
                              Running& running) {
  const uint32_t columns = pages * kPageRows;
  if (seen == 0) {
    std::fill_n(logits, columns, 0.0f);
    return 1.0f;
  }
  float largest = kLogitLimit * 2;
  if (!biased && seen >= columns) largest = largest_logit(logits, columns);
  // Columns that are all seen and not beyond the limit, the usual case, are ready as they are.
  if (!(std::abs(largest) <= kLogitLimit)) {
    finish_logits(logits, pages, seen, bias);
    largest = largest_logit(logits, columns);
  }
  const float before = running.max;
  running.max = std::max(before, largest);
  const Vector max = hn::Set(kFloats, running.max);
  Vector sum = hn::Zero(kFloats);
  for (uint32_t column = 0; column < columns; column += kLanes) {
    const Vector probability = exp_of_negative(hn::Sub(load(logits + column), max));
    hn::StoreU(probability, kFloats, logits + column);
    sum = hn::Add(sum, probability);
  }
  const float factor = before == running.max ? 1.0f : std::exp(before - running.max);
  running.sum = running.sum * factor + hn::GetLane(hn::SumOfLanes(kFloats, sum));
  return factor;
}

// ---- One call ---------------------------------------------------------------------------------------------------------

// Pages of one tile, in the types they are stored in or converted to f32.
struct Tile {
  uint32_t first_row, pages;
  const void* key[kTilePages];
  const void* value[kTilePages];
  const void* next_key[kTilePages];  // of the tile after it; the same pages again at the end
  const void* next_value[kTilePages];
  const float* bias[kTilePages];
};

// `count` vectors' worth of stored values as f32; count is a multiple of 4.
void to_floats(const std::byte* from, RowType type, size_t count, float* to) {
  const auto convert = [&](const auto* typed) HWY_ATTR {
    size_t done = 0;
    for (; done + kLanes <= count; done += kLanes) hn::StoreU(load(typed + done), kFloats, to + done);
    if (done == count) return;
    std::remove_cv_t<std::remove_reference_t<decltype(*typed)>> rest[16] = {};
    float floats[16];
    std::copy_n(typed + done, count - done, rest);
    hn::StoreU(load(rest), kFloats, floats);
    std::copy_n(floats, count - done, to + done);
  };
  if (type == RowType::kF16) {
    convert(reinterpret_cast<const Half*>(from));
  } else {
    convert(reinterpret_cast<const float*>(from));
  }
}

class Attention {
 public:
  Attention(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const ColumnStats* stats,
            float* scratch)
      : head_(head),
        begin_(begin),
        end_(end),
        queries_(queries),
        stats_(stats),
        layout_(queries.count, end - begin, head.head_dim, stats != nullptr),
        blocks_((queries.count + kMaxBlock - 1) / kMaxBlock),
        convert_key_(convert_once(head.key_type)),
        convert_value_(convert_once(head.value_type) || head.head_dim % 16 != 0),  // the kernel reads whole panels
        scratch_(aligned(scratch)) {}

  void run(const Partial& out) {
    pack_queries();
    std::fill_n(scratch_ + layout_.acc, queries_.count * layout_.padded_dim, 0.0f);
    uint32_t farthest = begin_;
    for (uint32_t query = 0; query < queries_.count; ++query) farthest = std::max(farthest, last_row(query));
    const uint32_t tiles = tiles_of(farthest - begin_);
    for (uint32_t tile = 0; tile < tiles; ++tile) attend_tile(tile);
    write_out(out);
    if (stats_ != nullptr) {
      for (uint32_t tile = 0; tile < tiles; ++tile) add_stats(tile);
    }
  }

 private:
  bool convert_once(RowType type) const { return !kConvertsInRegisters && blocks_ > 1 && type == RowType::kF16; }
  uint32_t block_begin(uint32_t block) const { return queries_.count * block / blocks_; }
  // Queries see rows below this one.
  uint32_t last_row(uint32_t query) const {
    return queries_.visible == nullptr ? end_ : std::min(end_, queries_.visible[query]);
  }
  uint32_t seen(uint32_t query, uint32_t first_row) const {
    return std::min(kTileRows, std::max(last_row(query), first_row) - first_row);
  }
  float* probabilities(uint32_t tile) const {
    const size_t kept = stats_ == nullptr ? 0 : tile;
    return scratch_ + layout_.probabilities + kept * queries_.count * kTileRows;
  }
  float* maxima(uint32_t tile) const { return scratch_ + layout_.maxima + size_t{tile} * queries_.count; }

  // Scaled queries, each block transposed to [head_dim, queries of the block].
  void pack_queries() {
    float* packed = scratch_ + layout_.packed;
    for (uint32_t block = 0; block < blocks_; ++block) {
      const uint32_t first = block_begin(block), last = block_begin(block + 1);
      for (uint32_t dim = 0; dim < head_.head_dim; ++dim) {
        for (uint32_t query = first; query < last; ++query) *packed++ = queries_.data[query][dim] * queries_.scale;
      }
    }
  }

  Tile load_tile(uint32_t first_row) {
    Tile tile{};
    tile.first_row = first_row;
    tile.pages = std::min(kTilePages, pages_of(end_ - first_row));
    const size_t padded_dim = layout_.padded_dim;
    for (uint32_t index = 0; index < tile.pages; ++index) {
      const PageView& page = head_.pages[first_row / kPageRows + index];
      tile.bias[index] = page.bias;
      tile.key[index] = page.key;
      tile.value[index] = page.value;
      if (convert_key_) {
        float* keys = scratch_ + layout_.keys + index * size_t{kPageRows} * head_.head_dim;
        to_floats(page.key, head_.key_type, size_t{kPageRows} * head_.head_dim, keys);
        tile.key[index] = keys;
      }
      if (convert_value_) {
        float* values = scratch_ + layout_.values + index * kPageRows * padded_dim;
        for (uint32_t row = 0; row < kPageRows; ++row) {
          const size_t offset = size_t{row} * head_.head_dim * value_bytes(head_.value_type);
          to_floats(page.value + offset, head_.value_type, head_.head_dim, values + row * padded_dim);
          std::fill(values + row * padded_dim + head_.head_dim, values + (row + 1) * padded_dim, 0.0f);
        }
        tile.value[index] = values;
      }
      const uint32_t next = std::min(first_row / kPageRows + index + kTilePages, pages_of(end_) - 1);
      tile.next_key[index] = convert_key_ ? tile.key[index] : head_.pages[next].key;
      tile.next_value[index] = convert_value_ ? tile.value[index] : head_.pages[next].value;
    }
    return tile;
  }

  void attend_tile(uint32_t index) {
    const Tile tile = load_tile(begin_ + index * kTileRows);
    for (uint32_t block = 0; block < blocks_; ++block) {
      const uint32_t first = block_begin(block), last = block_begin(block + 1);
      float* logits = probabilities(index) + size_t{first} * kTileRows;
      uint32_t rows = 0;
      for (uint32_t query = first; query < last; ++query) rows = std::max(rows, seen(query, tile.first_row));
      if (rows > 0) attend_block(tile, first, last, rows, logits);
      if (stats_ != nullptr) keep_for_stats(index, first, last, pages_of(rows) * kPageRows);
    }
  }

  void attend_block(const Tile& tile, uint32_t first, uint32_t last, uint32_t rows, float* logits) {
    const uint32_t count = last - first;
    const uint32_t pages = pages_of(rows);
    const bool half_keys = head_.key_type == RowType::kF16 && !convert_key_;
    const bool half_values = head_.value_type == RowType::kF16 && !convert_value_;
    const float* packed = scratch_ + layout_.packed + size_t{first} * head_.head_dim;
    const ScorePages score = half_keys ? kScorePages<Half>[count - 1] : kScorePages<float>[count - 1];
    score(packed, head_.head_dim, tile.key, tile.next_key, pages, logits);

    float factors[kMaxBlock];
    const bool biased = std::any_of(tile.bias, tile.bias + pages, [](const float* bias) { return bias != nullptr; });
    for (uint32_t query = first; query < last; ++query) {
      float* row = logits + size_t{query - first} * kTileRows;
      const uint32_t columns = seen(query, tile.first_row);
      factors[query - first] = softmax_tile(row, pages, columns, biased, tile.bias, running_[query]);
    }

    const size_t stride = convert_value_ ? layout_.padded_dim : head_.head_dim;
    const ValueTile values{logits, tile.value, tile.next_value, stride, rows};
    float* acc = scratch_ + layout_.acc + first * layout_.padded_dim;
    const ValueColumns add = half_values ? kValueColumns<Half>[count - 1] : kValueColumns<float>[count - 1];
    add(values, factors, acc, layout_.padded_dim);
  }

  // The probabilities of the tile stay where they are, complete to the tile's width; beside them what they refer to.
  void keep_for_stats(uint32_t tile, uint32_t first, uint32_t last, uint32_t filled) {
    for (uint32_t query = first; query < last; ++query) {
      maxima(tile)[query] = running_[query].max;
      float* row = probabilities(tile) + size_t{query} * kTileRows;
      std::fill(row + filled, row + kTileRows, 0.0f);
    }
  }

  void write_out(const Partial& out) const {
    for (uint32_t query = 0; query < queries_.count; ++query) {
      out.max[query] = running_[query].max;
      out.sum[query] = running_[query].sum;
      const float* acc = scratch_ + layout_.acc + query * layout_.padded_dim;
      std::copy_n(acc, head_.head_dim, out.acc + size_t{query} * head_.head_dim);
    }
  }

  // Column sums and maxima of the tile's probabilities, now that it is known what to divide them by.
  void add_stats(uint32_t tile) const {
    float weights[kMaxQueries], window_weights[kMaxQueries];
    for (uint32_t query = 0; query < queries_.count; ++query) {
      const Running& running = running_[query];
      const float power = maxima(tile)[query] == running.max ? 1.0f : std::exp(maxima(tile)[query] - running.max);
      weights[query] = running.sum > 0 ? power / running.sum : 0.0f;
      const bool in_window = stats_->window != nullptr && stats_->in_window[query] != 0;
      window_weights[query] = in_window ? weights[query] : 0.0f;
    }
    const uint32_t first_row = begin_ + tile * kTileRows;
    const uint32_t rows = std::min(kTileRows, end_ - first_row);
    for (uint32_t column = 0; column < rows; column += kPageRows) {
      const uint32_t count = std::min(kPageRows, rows - column);
      add_columns(probabilities(tile) + column, weights, window_weights, count, first_row + column);
    }
  }

  // Statistics of up to 16 rows from mass [queries, kTileRows].
  void add_columns(const float* mass, const float* weights, const float* window_weights, uint32_t rows,
                   uint32_t first_row) const {
    Vector sum[kVectors], window[kVectors], max[kVectors];
    HWY_UNROLL(16)
    for (int vector = 0; vector < kVectors; ++vector) sum[vector] = window[vector] = max[vector] = hn::Zero(kFloats);
    for (uint32_t query = 0; query < queries_.count; ++query, mass += kTileRows) {
      const Vector weight = hn::Set(kFloats, weights[query]), in_window = hn::Set(kFloats, window_weights[query]);
      HWY_UNROLL(16)
      for (int vector = 0; vector < kVectors; ++vector) {
        const Vector here = load(mass + vector * static_cast<int>(kLanes)), share = hn::Mul(here, weight);
        sum[vector] = hn::Add(sum[vector], share);
        window[vector] = hn::MulAdd(here, in_window, window[vector]);
        max[vector] = hn::Max(max[vector], share);
      }
    }
    const auto add = [](float total, float part) { return total + part; };
    const auto most = [](float total, float part) { return std::max(total, part); };
    if (stats_->sum != nullptr) fold(sum, rows, stats_->sum + first_row, add);
    if (stats_->window != nullptr) fold(window, rows, stats_->window + first_row, add);
    if (stats_->max != nullptr) fold(max, rows, stats_->max + first_row, most);
  }

  template <class Join>
  static void fold(const Vector (&found)[kVectors], uint32_t rows, float* to, const Join& join) {
    float columns[kPageRows];
    for (int vector = 0; vector < kVectors; ++vector) {
      hn::StoreU(found[vector], kFloats, columns + vector * static_cast<int>(kLanes));
    }
    for (uint32_t row = 0; row < rows; ++row) to[row] = join(to[row], columns[row]);
  }

  const HeadRows& head_;
  const uint32_t begin_, end_;
  const Queries& queries_;
  const ColumnStats* stats_;
  const ScratchLayout layout_;
  const uint32_t blocks_;
  const bool convert_key_, convert_value_;
  float* const scratch_;
  Running running_[kMaxQueries];
};

void attend_target(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
                   const ColumnStats* stats, float* scratch) {
  Attention(head, begin, end, queries, stats, scratch).run(out);
}

void add_scaled(const float* from, float scale, size_t count, float* to) {
  const Vector factor = hn::Set(kFloats, scale);
  size_t done = 0;
  for (; done + kLanes <= count; done += kLanes) {
    hn::StoreU(hn::MulAdd(factor, load(from + done), load(to + done)), kFloats, to + done);
  }
  for (; done < count; ++done) to[done] += scale * from[done];
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvmerger::kernels {
namespace {

HWY_EXPORT(attend_target);
HWY_EXPORT(add_scaled);

}  // namespace

size_t attend_scratch(uint32_t queries, uint32_t rows, uint32_t head_dim, bool with_stats) noexcept {
  return ScratchLayout(queries, rows, head_dim, with_stats).total;
}

void attend(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
            const ColumnStats* stats, float* scratch) noexcept {
  choose_target();
  HWY_DYNAMIC_DISPATCH(attend_target)(head, begin, end, queries, out, stats, scratch);
}

void combine(const Partial& partials, uint32_t parts, uint32_t count, uint32_t head_dim, float* const* output) noexcept {
  choose_target();
  for (uint32_t query = 0; query < count; ++query) {
    float max = -std::numeric_limits<float>::infinity();
    for (uint32_t part = 0; part < parts; ++part) max = std::max(max, partials.max[size_t{part} * count + query]);
    std::fill_n(output[query], head_dim, 0.0f);
    const auto weight = [&](size_t index) {
      return partials.sum[index] > 0 ? std::exp(partials.max[index] - max) : 0.0f;
    };
    float sum = 0;
    for (uint32_t part = 0; part < parts; ++part) {
      const size_t index = size_t{part} * count + query;
      sum += weight(index) * partials.sum[index];
    }
    for (uint32_t part = 0; part < parts && sum > 0; ++part) {
      const size_t index = size_t{part} * count + query;
      HWY_DYNAMIC_DISPATCH(add_scaled)(partials.acc + index * head_dim, weight(index) / sum, head_dim, output[query]);
    }
  }
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
