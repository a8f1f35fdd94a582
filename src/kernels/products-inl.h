// The two matrix products of attention: logits = Q K^T and acc = acc * factor + P V, one micro-kernel with its sums in
// registers. To be included after Highway, for every target; empty for those without vectors.
#if defined(KVMERGER_KERNELS_PRODUCTS_INL_H) == defined(HWY_TARGET_TOGGLE)  // once per target
#ifdef KVMERGER_KERNELS_PRODUCTS_INL_H
#undef KVMERGER_KERNELS_PRODUCTS_INL_H
#else
#define KVMERGER_KERNELS_PRODUCTS_INL_H
#endif

// Targets without vectors pass through here too: the guard above counts them all.
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;
using Half = hwy::float16_t;
constexpr Floats kFloats;
constexpr uint32_t kLanes = hn::MaxLanes(kFloats);
constexpr int kVectors = 16 / kLanes;  // of one panel, that is 16 columns
// Vectors of sums that the registers hold beside the operands, and the queries of one block that follow from it.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
constexpr int kSums = 24;
constexpr uint32_t kMaxBlock = 12;
#elif HWY_TARGET == HWY_NEON
constexpr int kSums = 16;
constexpr uint32_t kMaxBlock = 4;
#else
constexpr int kSums = 12;
constexpr uint32_t kMaxBlock = kSums / kVectors;
#endif
// With an instruction for it, converting f16 in the micro-kernel is faster even when several blocks of queries do it
// again (AVX2, 48 queries: 78 against 68 GFLOP/s).
constexpr bool kConvertsInRegisters = HWY_TARGET != HWY_SSE4;

// Panels worked on at once by a block of M queries; more of them hide latency when the block is small.
constexpr int panels_at_once(int queries) {
  int panels = static_cast<int>(kTilePages);
  while (panels > 1 && queries * kVectors * panels > kSums) panels /= 2;
  return panels;
}

constexpr size_t kLineBytes = 64;  // of a cache line

// Into the second cache level: a core waits for few lines in its first one at a time, so that rows asked for there came
// no faster than one after the other, and the sum of arithmetic and memory was the time.
HWY_INLINE void fetch(const void* line) {
  constexpr int kReads = 0, kSecondLevel = 2;
  __builtin_prefetch(line, kReads, kSecondLevel);
}

HWY_INLINE Vector load(const float* from) { return hn::LoadU(kFloats, from); }
HWY_INLINE Vector load(const Half* from) { return hn::PromoteTo(kFloats, hn::LoadU(hn::Rebind<Half, Floats>(), from)); }

// One number that a product takes for all lanes. With AVX-512 it stays in memory and products broadcast it themselves:
// to load it into a register of 512 bits Zen 4 needs units that convert f16, too, and products took a sixth longer. In
// assembly, since compilers load into a register what they need twice.
class Broadcast {
 public:
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  HWY_INLINE explicit Broadcast(const float* number) : number_(number) {}
  HWY_INLINE Vector times_plus(Vector b, Vector sum) const {
    asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(sum.raw) : "v"(b.raw), "m"(*number_));
    return sum;
  }

 private:
  const float* number_;
#else
  HWY_INLINE explicit Broadcast(const float* number) : number_(hn::Set(kFloats, *number)) {}
  HWY_INLINE Vector times_plus(Vector b, Vector sum) const { return hn::MulAdd(number_, b, sum); }

 private:
  Vector number_;
#endif
};

template <int M, int P>
struct Sums {
  Vector at[M][P * kVectors];

  HWY_INLINE Sums() {  // written out: what compilers add by themselves is not made for the target
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      HWY_UNROLL(16)
      for (int vector = 0; vector < P * kVectors; ++vector) at[row][vector] = hn::Zero(kFloats);
    }
  }

  // The sums of one row, P * 16 of them.
  HWY_INLINE void store(int row, float* to) const {
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) hn::StoreU(at[row][vector], kFloats, to + vector * kLanes);
  }

  // += A [M, depth] * panels [depth, 16 each]. Element (row, k) of A is at row * a_row + k * kColumn; row k of a panel
  // is at k * stride. Meanwhile `ahead`, panels needed later, comes into the cache: a line every kAhead rows.
  template <size_t kColumn, size_t kAhead, class T>
  HWY_INLINE void multiply_add(const float* a, size_t a_row, size_t depth, const T* const (&panel)[P],
                               const T* const (&ahead)[P], size_t stride) {
    for (size_t k = 0; k < depth; ++k, a += kColumn) {
      if (k % kAhead == 0) {
        HWY_UNROLL(16)
        for (int index = 0; index < P; ++index) fetch(ahead[index] + k * stride);
      }
      if constexpr (M < P * kVectors) {
        add_products(a, a_row, panel, k * stride);
      } else {
        add_products_by_row(a, a_row, panel, k * stride);
      }
    }
  }

 private:
  // One step of k. The registers are just enough when the shorter side of the block of sums waits in them and the other
  // passes through: here M elements of A wait (compilers load each once; with AVX-512 in memory).
  template <class T>
  HWY_INLINE void add_products(const float* a, size_t a_row, const T* const (&panel)[P], size_t offset) {
    const auto left = [&](int row) HWY_ATTR { return Broadcast(a + static_cast<size_t>(row) * a_row); };
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) {
      const Vector b = load_vector(panel, vector, offset);
      HWY_UNROLL(16)
      for (int row = 0; row < M; ++row) at[row][vector] = left(row).times_plus(b, at[row][vector]);
    }
  }

  template <class T>
  HWY_INLINE void add_products_by_row(const float* a, size_t a_row, const T* const (&panel)[P], size_t offset) {
    Vector b[P * kVectors];
    HWY_UNROLL(16)
    for (int vector = 0; vector < P * kVectors; ++vector) b[vector] = load_vector(panel, vector, offset);
    HWY_UNROLL(16)
    for (int row = 0; row < M; ++row) {
      const Broadcast left(a + static_cast<size_t>(row) * a_row);
      HWY_UNROLL(16)
      for (int vector = 0; vector < P * kVectors; ++vector) {
        at[row][vector] = left.times_plus(b[vector], at[row][vector]);
      }
    }
  }

  template <class T>
  static HWY_INLINE Vector load_vector(const T* const (&panel)[P], int vector, size_t offset) {
    return load(panel[vector / kVectors] + offset + static_cast<size_t>(vector % kVectors) * kLanes);
  }
};

// The pages that a product works on, and as many whose same part meanwhile comes into the cache: those of the next
// tile.
struct TilePages {
  const PageView* here;
  const PageView* ahead;
};

template <class T>
HWY_INLINE const T* keys_of(const PageView& page) {
  return reinterpret_cast<const T*>(page.key);
}
template <class T>
HWY_INLINE const T* values_of(const PageView& page) {
  return reinterpret_cast<const T*>(page.value);
}

// logits [M, kTileRows], columns of P pages = packed queries [head_dim, M] * keys [head_dim, 16] of each page.
template <int M, int P, class T>
HWY_INLINE void score_panels(const float* packed, uint32_t head_dim, const TilePages& pages, uint32_t first,
                             float* logits) {
  const T *panel[P], *next[P];
  for (uint32_t page = 0; page < P; ++page) {
    panel[page] = keys_of<T>(pages.here[first + page]), next[page] = keys_of<T>(pages.ahead[first + page]);
  }
  Sums<M, P> sums;
  sums.template multiply_add<M, kLineBytes / (kPageRows * sizeof(T))>(packed, 1, head_dim, panel, next, kPageRows);
  HWY_UNROLL(16)
  for (int row = 0; row < M; ++row) sums.store(row, logits + row * kTileRows + first * kPageRows);
}

template <int M, class T>
void score_pages(const float* packed, uint32_t head_dim, const TilePages& pages, uint32_t count, float* logits) {
  constexpr uint32_t kPanels = panels_at_once(M);
  uint32_t page = 0;
  for (; page + kPanels <= count; page += kPanels) score_panels<M, kPanels, T>(packed, head_dim, pages, page, logits);
  for (; page < count; ++page) score_panels<M, 1, T>(packed, head_dim, pages, page, logits);
}

// What the value product reads: rows of probabilities [M, kTileRows] and V [rows, stride] in pages of 16 rows.
struct ValueTile {
  const float* probabilities;
  TilePages pages;
  size_t stride;
  uint32_t rows;
};

// acc [M, columns of P panels] = acc * factor + P V, from column on.
template <int M, int P, class T>
HWY_INLINE void value_panels(const ValueTile& tile, const float* factors, size_t column, float* acc,
                             size_t acc_stride) {
  Sums<M, P> sums;
  for (uint32_t first = 0; first < tile.rows; first += kPageRows) {
    const T *panel[P], *next[P];
    const T* page = values_of<T>(tile.pages.here[first / kPageRows]) + column;
    const T* ahead = values_of<T>(tile.pages.ahead[first / kPageRows]) + column;
    for (int index = 0; index < P; ++index) panel[index] = page + index * 16, next[index] = ahead + index * 16;
    const size_t depth = std::min(kPageRows, tile.rows - first);
    sums.template multiply_add<1, 1>(tile.probabilities + first, kTileRows, depth, panel, next, tile.stride);
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

using ScorePages = void (*)(const float*, uint32_t, const TilePages&, uint32_t, float*);
using ValueColumns = void (*)(const ValueTile&, const float*, float*, size_t);
// By queries of the block, minus one.
using ScoreTable = std::array<ScorePages, kMaxBlock>;
using ValueTable = std::array<ValueColumns, kMaxBlock>;
using BlockSizes = std::make_integer_sequence<int, kMaxBlock>;

template <class T, int... kMinusOne>
constexpr ScoreTable score_table(std::integer_sequence<int, kMinusOne...> /*sizes*/) {
  return {&score_pages<kMinusOne + 1, T>...};
}
template <class T, int... kMinusOne>
constexpr ValueTable value_table(std::integer_sequence<int, kMinusOne...> /*sizes*/) {
  return {&value_columns<kMinusOne + 1, T>...};
}
template <class T>
constexpr ScoreTable kScorePages = score_table<T>(BlockSizes());
template <class T>
constexpr ValueTable kValueColumns = value_table<T>(BlockSizes());

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#endif  // with vectors
#endif  // per target
