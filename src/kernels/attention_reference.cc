// The definition of attention over cache rows, one row after the other in double precision. Slow and easy to check.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention.h"
#include "kernels/half.h"

namespace kvmerger::kernels {
namespace {

constexpr uint32_t kMaxHeadDim = 256;

// Element `index` of a page's keys or values.
double element(const std::byte* values, RowType type, size_t index) {
  if (type == RowType::kF32) return static_cast<double>(reinterpret_cast<const float*>(values)[index]);
  return static_cast<double>(float_from_half(reinterpret_cast<const uint16_t*>(values)[index]));
}

// The same of a q8_0 page; the element is dimension dim of the row in slot.
double q8_element(const std::byte* values, uint32_t head_dim, size_t index, uint32_t slot, uint32_t dim) {
  const auto* scales = reinterpret_cast<const uint16_t*>(values + size_t{kPageRows} * head_dim);
  const double scale = static_cast<double>(float_from_half(scales[dim / kScaleBlock * kPageRows + slot]));
  return scale * reinterpret_cast<const int8_t*>(values)[index];
}

double key_element(const HeadRows& head, const PageView& page, uint32_t slot, uint32_t dim) {
  if (head.key_type != RowType::kQ8) return element(page.key, head.key_type, size_t{dim} * kPageRows + slot);
  return q8_element(page.key, head.head_dim, q8_key_index(head.head_dim, slot, dim), slot, dim);
}

double value_element(const HeadRows& head, const PageView& page, uint32_t slot, uint32_t dim) {
  if (head.value_type != RowType::kQ8) return element(page.value, head.value_type, size_t{slot} * head.head_dim + dim);
  return q8_element(page.value, head.head_dim, q8_value_index(head.head_dim, slot, dim), slot, dim);
}

// q.k * scale + bias
double logit(const HeadRows& head, uint32_t row, const float* query, float scale) {
  const PageView& page = head.pages[row / kPageRows];
  const uint32_t slot = row % kPageRows;
  double dot = 0;
  for (uint32_t dim = 0; dim < head.head_dim; ++dim) {
    dot += static_cast<double>(query[dim]) * key_element(head, page, slot, dim);
  }
  const double bias = page.bias == nullptr ? 0.0 : static_cast<double>(page.bias[slot]);
  const double limit = static_cast<double>(kLogitLimit);
  return std::clamp(dot * static_cast<double>(scale) + bias, -limit, limit);
}

void add_row(const HeadRows& head, uint32_t row, double weight, double* acc) {
  const PageView& page = head.pages[row / kPageRows];
  for (uint32_t dim = 0; dim < head.head_dim; ++dim) {
    acc[dim] += weight * value_element(head, page, row % kPageRows, dim);
  }
}

void add_to_stats(const ColumnStats& stats, uint32_t row, uint32_t query, float mass) {
  if (stats.sum != nullptr) stats.sum[row] += mass;
  if (stats.window != nullptr && stats.in_window[query] != 0) stats.window[row] += mass;
  if (stats.max != nullptr) stats.max[row] = std::max(stats.max[row], mass);
}

}  // namespace

void attend_reference(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
                      const ColumnStats* stats) noexcept {
  for (uint32_t query = 0; query < queries.count; ++query) {
    const float* data = queries.data[query];
    const uint32_t last = queries.visible == nullptr ? end : std::min(end, queries.visible[query]);
    double max = -std::numeric_limits<double>::infinity();
    for (uint32_t row = begin; row < last; ++row) max = std::max(max, logit(head, row, data, queries.scale));

    double sum = 0;
    double acc[kMaxHeadDim] = {};
    for (uint32_t row = begin; row < last; ++row) {
      const double weight = std::exp(logit(head, row, data, queries.scale) - max);
      sum += weight;
      add_row(head, row, weight, acc);
    }
    out.max[query] = static_cast<float>(max);
    out.sum[query] = static_cast<float>(sum);
    for (uint32_t dim = 0; dim < head.head_dim; ++dim) {
      out.acc[size_t{query} * head.head_dim + dim] = static_cast<float>(acc[dim]);
    }
    for (uint32_t row = begin; stats != nullptr && row < last; ++row) {
      const double mass = std::exp(logit(head, row, data, queries.scale) - max) / sum;
      add_to_stats(*stats, row, query, static_cast<float>(mass));
    }
  }
}

}  // namespace kvmerger::kernels
