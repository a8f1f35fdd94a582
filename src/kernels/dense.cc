#include "kernels/dense.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dense.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/products-inl.h"
#include "kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void multiply_target(Matrix a, Matrix b, uint32_t m, uint32_t k, uint32_t n, bool /*lower*/, float* c) {
  for (uint32_t i = 0; i < m; ++i) {
    for (uint32_t j = 0; j < n; ++j) {
      float sum = 0.0F;
      for (uint32_t at = 0; at < k; ++at) sum += a.data[i * a.row + at * a.column] * b.data[at * b.row + j * b.column];
      c[size_t{i} * n + j] = sum;
    }
  }
}

float dot(const float* x, const float* y, uint32_t n) {
  float sum = 0.0F;
  for (uint32_t j = 0; j < n; ++j) sum += x[j] * y[j];
  return sum;
}

// out [n] += scales [rows] times a [rows, n].
void add_scaled_rows(const float* a, uint32_t rows, const float* scales, uint32_t n, float* out) {
  for (uint32_t i = 0; i < rows; ++i) {
    for (uint32_t j = 0; j < n; ++j) out[j] += scales[i] * a[size_t{i} * n + j];
  }
}

float scale_row(float* x, uint32_t n, float scale, const float* bias) {
  float largest = x[0] * scale + (bias ? bias[0] : 0.0F);
  for (uint32_t j = 0; j < n; ++j) {
    x[j] = x[j] * scale + (bias ? bias[j] : 0.0F);
    largest = std::max(largest, x[j]);
  }
  return largest;
}

float exponential_row(float* x, uint32_t n, float largest) {
  float sum = 0.0F;
  for (uint32_t j = 0; j < n; ++j) sum += x[j] = std::exp(std::min(x[j] - largest, 0.0F));
  return sum;
}

#else

constexpr int kRows = kMaxBlock;  // of one block of sums
constexpr int kPanels = panels_at_once(kRows);
constexpr uint32_t kColumns = kPanels * 16;
constexpr uint32_t kDepth = 256;  // of one pass over k: a panel of it stays in the first cache

// [depth, width] from the part of `from` that begins at (i, j): element (at, w) is from(i + w, j + at) for rows, zero
// beyond `valid`.
void pack(Matrix from, size_t i, size_t j, uint32_t valid, uint32_t width, uint32_t depth, float* to) {
  const float* first = from.data + i * from.row + j * from.column;
  for (uint32_t w = 0; w < width; ++w) {
    if (w < valid) {
      const float* source = first + w * from.row;
      for (uint32_t at = 0; at < depth; ++at) to[size_t{at} * width + w] = source[at * from.column];
    } else {
      for (uint32_t at = 0; at < depth; ++at) to[size_t{at} * width + w] = 0.0F;
    }
  }
}

// Where the rows of one block of sums lie: element (row, k) is data[row * stride + k], or, packed, data[k * kRows +
// row].
struct Left {
  const float* data;
  size_t stride;  // 0: packed
};

HWY_INLINE void store_row(const Sums<kRows, kPanels>& sums, int row, bool first, uint32_t columns, float* c) {
  HWY_ALIGN float row_sums[kColumns];
  float* to = columns == kColumns && first ? c : row_sums;
  sums.store(row, to);
  if (to == c) return;
  for (uint32_t column = 0; column < columns; ++column) c[column] = row_sums[column] + (first ? 0.0F : c[column]);
}

// c [rows, columns] of one block, of stride n, (+)= a [kRows, depth] * panels [kPanels][depth, 16].
void block(Left a, const float* panels, uint32_t depth, bool first, uint32_t rows, uint32_t columns, uint32_t n,
           float* c) {
  Sums<kRows, kPanels> sums;
  const float* panel[kPanels];
  for (int index = 0; index < kPanels; ++index) panel[index] = panels + static_cast<size_t>(index) * depth * 16;
  if (a.stride == 0) {
    sums.template multiply_add<kRows, 1>(a.data, 1, depth, panel, panel, 16);
  } else {
    sums.template multiply_add<1, 1>(a.data, a.stride, depth, panel, panel, 16);
  }
  HWY_UNROLL(16)  // or the sums are in memory from the beginning
  for (int row = 0; row < kRows; ++row) {
    if (row < static_cast<int>(rows)) store_row(sums, row, first, columns, c + static_cast<size_t>(row) * n);
  }
}

void multiply_target(Matrix a, Matrix b, uint32_t m, uint32_t k, uint32_t n, bool lower, float* c) {
  const uint32_t packed_from = a.column == 1 ? m - m % kRows : 0;  // whole blocks are read in place where they can be
  std::vector<float> left((size_t{m} - packed_from + kRows - 1) / kRows * kRows * std::min(k, kDepth));
  std::vector<float> right(size_t{kColumns} * std::min(k, kDepth));
  for (uint32_t at = 0; at < k; at += kDepth) {
    const uint32_t depth = std::min(kDepth, k - at);
    const auto packed = [&](uint32_t row) { return &left[size_t{row - packed_from} * depth]; };
    for (uint32_t row = packed_from; row < m; row += kRows) {
      pack(a, row, at, std::min<uint32_t>(kRows, m - row), kRows, depth, packed(row));
    }
    for (uint32_t column = 0; column < n; column += kColumns) {
      const uint32_t columns = std::min(kColumns, n - column);
      for (uint32_t panel = 0; panel < kColumns; panel += 16) {
        const uint32_t valid = panel < columns ? std::min(16U, columns - panel) : 0;
        pack(b.transposed(), valid > 0 ? column + panel : column, at, valid, 16, depth, &right[size_t{panel} * depth]);
      }
      for (uint32_t row = 0; row < m; row += kRows) {
        if (lower && row + kRows <= column) continue;
        const Left rows = row < packed_from ? Left{a.data + row * a.row + at, a.row} : Left{packed(row), 0};
        block(rows, right.data(), depth, at == 0, std::min<uint32_t>(kRows, m - row), columns, n,
              c + size_t{row} * n + column);
      }
    }
  }
}

float dot(const float* x, const float* y, uint32_t n) {
  Vector sums[4] = {hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats)};
  uint32_t j = 0;
  for (; j + 4 * kLanes <= n; j += 4 * kLanes) {
    for (uint32_t part = 0; part < 4; ++part) {
      sums[part] = hn::MulAdd(load(x + j + part * kLanes), load(y + j + part * kLanes), sums[part]);
    }
  }
  float sum = hn::GetLane(hn::SumOfLanes(kFloats, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  for (; j < n; ++j) sum += x[j] * y[j];
  return sum;
}

template <int M>
void add_scaled_block(const float* a, const float* scales, uint32_t n, float* out) {
  uint32_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    Vector sum = load(out + j);
    HWY_UNROLL(8)
    for (uint32_t i = 0; i < M; ++i) sum = hn::MulAdd(hn::Set(kFloats, scales[i]), load(a + size_t{i} * n + j), sum);
    hn::StoreU(sum, kFloats, out + j);
  }
  for (; j < n; ++j) {
    for (uint32_t i = 0; i < M; ++i) out[j] += scales[i] * a[size_t{i} * n + j];
  }
}

// out [n] += scales [rows] times a [rows, n].
void add_scaled_rows(const float* a, uint32_t rows, const float* scales, uint32_t n, float* out) {
  uint32_t i = 0;
  for (; i + 4 <= rows; i += 4) add_scaled_block<4>(a + size_t{i} * n, scales + i, n, out);
  for (; i < rows; ++i) add_scaled_block<1>(a + size_t{i} * n, scales + i, n, out);
}

float scale_row(float* x, uint32_t n, float scale, const float* bias) {
  const Vector factor = hn::Set(kFloats, scale);
  Vector largest = hn::Set(kFloats, x[0] * scale + (bias ? bias[0] : 0.0F));
  uint32_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    const Vector value = hn::MulAdd(load(x + j), factor, bias ? load(bias + j) : hn::Zero(kFloats));
    largest = hn::Max(largest, value);
    hn::StoreU(value, kFloats, x + j);
  }
  float most = hn::GetLane(hn::MaxOfLanes(kFloats, largest));
  for (; j < n; ++j) {
    x[j] = x[j] * scale + (bias ? bias[j] : 0.0F);
    most = std::max(most, x[j]);
  }
  return most;
}

float exponential_row(float* x, uint32_t n, float largest) {
  const Vector most = hn::Set(kFloats, largest), zero = hn::Zero(kFloats), unit = hn::Set(kFloats, kLog2E);
  Vector sums = zero;
  uint32_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    const Vector value = exp2_of_negative(hn::Mul(hn::Min(hn::Sub(load(x + j), most), zero), unit));
    sums = hn::Add(sums, value);
    hn::StoreU(value, kFloats, x + j);
  }
  float sum = hn::GetLane(hn::SumOfLanes(kFloats, sums));
  for (; j < n; ++j) sum += x[j] = std::exp(std::min(x[j] - largest, 0.0F));
  return sum;
}

#endif

void multiply_vector_target(const float* a, uint32_t m, uint32_t n, const float* x, float* out) {
  for (uint32_t i = 0; i < m; ++i) out[i] = dot(a + size_t{i} * n, x, n);
}

void vector_multiply_target(const float* x, const float* a, uint32_t m, uint32_t n, float* out) {
  std::fill_n(out, n, 0.0F);
  add_scaled_rows(a, m, x, n, out);
}

void normal_vector_target(const float* a, uint32_t m, uint32_t n, const float* x, float* out) {
  constexpr uint32_t kAtOnce = 4;  // rows: they are still in the first cache when they come by the second time
  float products[kAtOnce];
  std::fill_n(out, n, 0.0F);
  for (uint32_t i = 0; i < m; i += kAtOnce) {
    const uint32_t rows = std::min(kAtOnce, m - i);
    multiply_vector_target(a + size_t{i} * n, rows, n, x, products);
    add_scaled_rows(a + size_t{i} * n, rows, products, n, out);
  }
}

void softmax_rows_target(float* logits, uint32_t m, uint32_t n, float scale, const float* bias, float* largest,
                         float* sum) {
  for (uint32_t i = 0; i < m; ++i) {
    float* row = logits + size_t{i} * n;
    largest[i] = scale_row(row, n, scale, bias);
    sum[i] = exponential_row(row, n, largest[i]);
  }
}

void exponentials_target(float* logits, uint32_t m, uint32_t n, float scale, const float* bias, const float* largest,
                         float* sum) {
  for (uint32_t i = 0; i < m; ++i) {
    float* row = logits + size_t{i} * n;
    scale_row(row, n, scale, bias);
    sum[i] = exponential_row(row, n, largest[i]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvmerger::kernels {
namespace {

HWY_EXPORT(multiply_target);
HWY_EXPORT(multiply_vector_target);
HWY_EXPORT(vector_multiply_target);
HWY_EXPORT(normal_vector_target);
HWY_EXPORT(softmax_rows_target);
HWY_EXPORT(exponentials_target);

}  // namespace

void multiply(Matrix a, Matrix b, uint32_t m, uint32_t k, uint32_t n, float* c) {
  choose_target();
  HWY_DYNAMIC_DISPATCH(multiply_target)(a, b, m, k, n, false, c);
}

void gram(const float* a, uint32_t m, uint32_t n, float* c) {
  choose_target();
  const Matrix rows{a, n, 1};
  HWY_DYNAMIC_DISPATCH(multiply_target)(rows, rows.transposed(), m, n, m, true, c);
}

void multiply_vector(const float* a, uint32_t m, uint32_t n, const float* x, float* out) {
  choose_target();
  HWY_DYNAMIC_DISPATCH(multiply_vector_target)(a, m, n, x, out);
}

void vector_multiply(const float* x, const float* a, uint32_t m, uint32_t n, float* out) {
  choose_target();
  HWY_DYNAMIC_DISPATCH(vector_multiply_target)(x, a, m, n, out);
}

void normal_vector(const float* a, uint32_t m, uint32_t n, const float* x, float* out) {
  choose_target();
  HWY_DYNAMIC_DISPATCH(normal_vector_target)(a, m, n, x, out);
}

void softmax_rows(float* logits, uint32_t m, uint32_t n, float scale, const float* bias, float* largest, float* sum) {
  choose_target();
  HWY_DYNAMIC_DISPATCH(softmax_rows_target)(logits, m, n, scale, bias, largest, sum);
}

void exponentials(float* logits, uint32_t m, uint32_t n, float scale, const float* bias, const float* largest,
                  float* sum) {
  choose_target();
  HWY_DYNAMIC_DISPATCH(exponentials_target)(logits, m, n, scale, bias, largest, sum);
}

void dense_attention(const float* q, uint32_t m, const float* k, uint32_t n, uint32_t dim, const float* bias,
                     float* weights, float* largest, float* sum) {
  multiply({q, dim, 1}, {k, 1, dim}, m, dim, n, weights);
  softmax_rows(weights, m, n, 1.0F / std::sqrt(static_cast<float>(dim)), bias, largest, sum);
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
