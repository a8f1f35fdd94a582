// Biases, and values, so that reference queries get from the rows that survive what they got from all rows. After
// Attention Matching (arXiv 2602.16284) with ridges that pull towards the rows as the policy made them:
//   mass:   w >= 0 minimising |A w - 1|^2 + r |w - e^b0|^2, by multiplicative updates; b = log w
//   values: V' = V + P^T (P P^T + r I)^-1 (O - P V), P the attention that follows from w
// A [queries, rows] is what each row gets from the full head. r is lambda times the mean energy of a column. A quarter
// of the reference queries is held out; a head stays as it was where the fit does not help those.
#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "fit/fit.h"
#include "fit/response.h"
#include "kernels/dense.h"

namespace kvmerger::fit {
namespace {

using Vector = std::vector<float>;

constexpr float kMostStep = 5.0F;  // a weight changes by at most this factor in one round

// matrix: [rows, columns].
float mean_column_energy(const Vector& matrix, uint32_t columns) {
  double sum = 0.0;
  for (size_t row = 0; row < matrix.size(); row += columns) {
    float energy = 0.0F;
    kernels::multiply_vector(&matrix[row], 1, columns, &matrix[row], &energy);
    sum += double{energy};
  }
  return static_cast<float>(sum / static_cast<double>(columns));
}

bool all_finite(const Vector& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

class LeastSquares final : public Fit {
 public:
  explicit LeastSquares(bool values) : values_(values) {}

  void options(OptionVisitor& visitor) override {
    visitor.real("lambda", lambda_, 1e-6, 1e6, "strength of the pull towards the rows as they were");
    visitor.whole("queries", queries_, 8, 4096, "reference queries of each query head");
    visitor.whole("rounds", rounds_, 1, 1000, "of the search for biases");
    visitor.real("clip", clip_, 0, 20, "most that a bias changes");
  }
  uint32_t queries() const override { return queries_; }

 protected:
  double fit_head(const kv::HeadView& head, kv::HeadPlan& plan) const override;

 private:
  Vector fit_weights(const Vector& attention, const Vector& start) const;
  // The new values [rows, head_dim].
  Vector fit_values(const Target& target, const Vector& attention, const Vector& weight, const Survivors& rows) const;

  const bool values_;
  double lambda_ = 0.05, clip_ = 3.0;
  uint32_t queries_ = 96, rounds_ = 40;
};

Vector LeastSquares::fit_weights(const Vector& attention, const Vector& start) const {
  const auto n = static_cast<uint32_t>(start.size()), r = static_cast<uint32_t>(attention.size() / n);
  const float ridge = static_cast<float>(lambda_) * mean_column_energy(attention, n);
  const float limit = std::exp(static_cast<float>(clip_));
  const Vector ones(r, 1.0F);
  Vector wanted(n), gradient(n), weight = start;
  kernels::vector_multiply(ones.data(), attention.data(), r, n, wanted.data());
  for (uint32_t round = 0; round < rounds_; ++round) {
    kernels::normal_vector(attention.data(), r, n, weight.data(), gradient.data());
    for (uint32_t row = 0; row < n; ++row) {
      const float step = (wanted[row] + ridge * start[row]) / (gradient[row] + ridge * weight[row] + 1e-20F);
      // Held within its range in every round: at the end alone it could raise the objective.
      const float stepped = weight[row] * std::clamp(step, 1 / kMostStep, kMostStep);
      weight[row] = std::clamp(stepped, start[row] / limit, start[row] * limit);
    }
  }
  return weight;
}

Vector LeastSquares::fit_values(const Target& target, const Vector& attention, const Vector& weight,
                                const Survivors& rows) const {
  const uint32_t r = target.count, n = rows.count, dim = rows.dim;
  Vector p = weighted(attention, weight), mass(r), gram(size_t{r} * r), residual(size_t{r} * dim);
  Vector change(size_t{n} * dim);
  kernels::multiply_vector(attention.data(), r, n, weight.data(), mass.data());
  for (uint32_t query = 0; query < r; ++query) {
    const float share = 1.0F / std::max(mass[query], 1e-30F);
    for (uint32_t row = 0; row < n; ++row) p[size_t{query} * n + row] *= share;
  }
  kernels::gram(p.data(), r, n, gram.data());
  kernels::multiply({p.data(), n, 1}, {rows.value.data(), dim, 1}, r, n, dim, residual.data());
  const double ridge = lambda_ * double{mean_column_energy(p, n)};

  using Dense = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Dense system(r, r), right(r, dim);
  for (uint32_t i = 0; i < r; ++i) {
    for (uint32_t j = 0; j <= i; ++j) system(i, j) = double{gram[size_t{i} * r + j]} + (i == j ? ridge : 0.0);
    for (uint32_t j = 0; j < dim; ++j) {
      right(i, j) = double{target.output[size_t{i} * dim + j]} - double{residual[size_t{i} * dim + j]};
    }
  }
  const Eigen::LLT<Dense> factors(system);  // reads what is on and below the diagonal
  if (factors.info() != Eigen::Success) return rows.value;
  const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> solution =
      factors.solve(right).cast<float>();
  kernels::multiply({p.data(), 1, n}, {solution.data(), dim, 1}, n, r, dim, change.data());
  for (size_t at = 0; at < change.size(); ++at) change[at] += rows.value[at];
  return change;
}

double LeastSquares::fit_head(const kv::HeadView& head, kv::HeadPlan& plan) const {
  const Target seen = target(head, Part::kFit), held_out = target(head, Part::kHeldOut);
  const Survivors rows = survivors(head, plan);
  const Vector attention = fit::attention(seen, rows), held_out_attention = fit::attention(held_out, rows);
  Vector start;
  for (const float bias : rows.bias) start.push_back(std::exp(bias));
  const Vector weight = fit_weights(attention, start);
  const Vector value = values_ ? fit_values(seen, attention, weight, rows) : rows.value;
  const double before = relative_error(held_out, held_out_attention, start, rows.value);
  if (!all_finite(weight) || !all_finite(value)) return before;
  const double after = relative_error(held_out, held_out_attention, weight, value);
  if (!(after < before)) return before;
  for (uint32_t row = 0; row < rows.count; ++row) {
    if (weight[row] > 0.0F) plan.bias[row] = std::log(weight[row]);  // e^-104 and below are 0
  }
  if (!values_) return after;
  plan.dense.resize(rows.count);
  for (uint32_t row = 0; row < rows.count; ++row) plan.dense[row] = static_cast<int32_t>(row);
  plan.dense_value = value;
  return after;
}

}  // namespace

std::unique_ptr<Fit> make_mass() { return std::make_unique<LeastSquares>(false); }
std::unique_ptr<Fit> make_least_squares() { return std::make_unique<LeastSquares>(true); }

}  // namespace kvmerger::fit
