#include "fit/response.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "kernels/dense.h"

namespace kvmerger::fit {
namespace {

constexpr uint32_t kHeldOutEvery = 4;

float logit_scale(uint32_t dim) { return 1.0F / std::sqrt(static_cast<float>(dim)); }

void add_sum(const kv::Rows& rows, std::span<const kv::Source> sources, std::vector<float>& to) {
  to.resize(to.size() + rows.dim);
  float* sum = to.data() + to.size() - rows.dim;
  for (const kv::Source& source : sources) {
    const std::span<const float> row = rows[source.row];
    for (uint32_t at = 0; at < rows.dim; ++at) sum[at] += source.weight * row[at];
  }
}

}  // namespace

Target target(const kv::HeadView& head, Part part) {
  KVM_CHECK(head.query.count >= kHeldOutEvery);
  Target target{0, head.key.dim, {}, {}, {}, {}};
  for (uint32_t index = 0; index < head.query.count; ++index) {
    const bool held_out = index % kHeldOutEvery == kHeldOutEvery - 1;
    if (held_out != (part == Part::kHeldOut)) continue;
    target.query.insert(target.query.end(), head.query[index].begin(), head.query[index].end());
    ++target.count;
  }
  const uint32_t r = target.count, n = head.rows(), dim = target.dim;
  target.largest.resize(r);
  target.sum.resize(r);
  target.output.resize(size_t{r} * dim);
  std::vector<float> weights(size_t{r} * n);
  kernels::dense_attention(target.query.data(), r, head.key.data, n, dim, head.bias.data(), weights.data(),
                           target.largest.data(), target.sum.data());
  kernels::multiply({weights.data(), n, 1}, {head.value.data, dim, 1}, r, n, dim, target.output.data());
  for (uint32_t query = 0; query < r; ++query) {
    for (uint32_t at = 0; at < dim; ++at) target.output[size_t{query} * dim + at] /= target.sum[query];
  }
  return target;
}

Survivors survivors(const kv::HeadView& head, const kv::HeadPlan& plan) {
  Survivors rows{plan.rows(), head.key.dim, {}, {}, plan.bias};
  for (uint32_t row = 0; row < rows.count; ++row) {
    add_sum(head.key, plan.key[row], rows.key);
    if (!plan.dense.empty() && plan.dense[row] >= 0) {
      const auto first = plan.dense_value.begin() + std::ptrdiff_t{plan.dense[row]} * rows.dim;
      rows.value.insert(rows.value.end(), first, first + rows.dim);
    } else {
      add_sum(head.value, plan.value[row], rows.value);
    }
  }
  return rows;
}

std::vector<float> attention(const Target& target, const Survivors& rows) {
  const uint32_t r = target.count, n = rows.count, dim = rows.dim;
  std::vector<float> shares(size_t{r} * n), sum(r);
  kernels::multiply({target.query.data(), dim, 1}, {rows.key.data(), 1, dim}, r, dim, n, shares.data());
  kernels::exponentials(shares.data(), r, n, logit_scale(dim), nullptr, target.largest.data(), sum.data());
  for (uint32_t query = 0; query < r; ++query) {
    for (uint32_t row = 0; row < n; ++row) shares[size_t{query} * n + row] /= target.sum[query];
  }
  return shares;
}

std::vector<float> weighted(const std::vector<float>& attention, const std::vector<float>& weight) {
  std::vector<float> products = attention;
  for (size_t first = 0; first < products.size(); first += weight.size()) {
    for (size_t row = 0; row < weight.size(); ++row) products[first + row] *= weight[row];
  }
  return products;
}

double relative_error(const Target& target, const std::vector<float>& attention, const std::vector<float>& weight,
                      const std::vector<float>& value) {
  const uint32_t r = target.count, n = static_cast<uint32_t>(weight.size()), dim = target.dim;
  const std::vector<float> shares = weighted(attention, weight);
  std::vector<float> output(size_t{r} * dim), masses(r);
  kernels::multiply({shares.data(), n, 1}, {value.data(), dim, 1}, r, n, dim, output.data());
  kernels::multiply_vector(attention.data(), r, n, weight.data(), masses.data());
  double wrong = 0.0, all = 0.0;
  for (uint32_t query = 0; query < r; ++query) {
    const double mass{masses[query]};
    for (uint32_t at = 0; at < dim; ++at) {
      const double full = double{target.output[size_t{query} * dim + at]};
      const double own = mass > 0.0 ? double{output[size_t{query} * dim + at]} / mass : 0.0;
      wrong += (own - full) * (own - full);
      all += full * full;
    }
  }
  return all > 0.0 ? wrong / all : 0.0;
}

double predicted_error(const kv::HeadView& head, const kv::HeadPlan& plan) {
  if (is_identity(plan, head)) return 0.0;
  const Target held_out = target(head, Part::kHeldOut);
  const Survivors rows = survivors(head, plan);
  std::vector<float> weight;
  for (const float bias : rows.bias) weight.push_back(std::exp(bias));
  return relative_error(held_out, attention(held_out, rows), weight, rows.value);
}

}  // namespace kvmerger::fit
