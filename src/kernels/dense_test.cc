#include "kernels/dense.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/rng.h"
#include "kernels/attention.h"
#include "kernels/test_head.h"

namespace kvmerger::kernels {
namespace {

std::vector<float> random_matrix(Rng& rng, size_t size) {
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(rng.uniform() * 2 - 1);
  return values;
}

}  // namespace

TEST_CASE("the lower triangle of a product with its own transpose") {
  on_every_target([] {
    INFO(std::string(target_name()));
    Rng rng(4);
    for (const auto& [m, n] : std::vector<std::array<uint32_t, 2>>{{1, 1}, {6, 300}, {17, 64}, {40, 5}, {216, 33}}) {
      const std::vector<float> a = random_matrix(rng, m * n);
      std::vector<float> c(m * m), whole(m * m);
      gram(a.data(), m, n, c.data());
      multiply({a.data(), n, 1}, {a.data(), 1, n}, m, n, m, whole.data());
      for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j <= i; ++j) REQUIRE(c[i * m + j] == whole[i * m + j]);
      }
    }
  });
}

TEST_CASE("dense products of all strides and odd sizes: as in double precision") {
  on_every_target([] {
    INFO(std::string(target_name()));
    Rng rng(3);
    for (const auto& [m, k, n] : std::vector<std::array<uint32_t, 3>>{
             {1, 1, 1}, {6, 64, 16}, {7, 65, 17}, {13, 300, 40}, {256, 20, 33}, {5, 257, 100}, {12, 512, 31}}) {
      for (const bool a_transposed : {false, true}) {
        for (const bool b_transposed : {false, true}) {
          const std::vector<float> a = random_matrix(rng, m * k), b = random_matrix(rng, k * n);
          const Matrix left = a_transposed ? Matrix{a.data(), 1, m} : Matrix{a.data(), k, 1};
          const Matrix right = b_transposed ? Matrix{b.data(), 1, k} : Matrix{b.data(), n, 1};
          std::vector<float> c(m * n, -7.0F);
          multiply(left, right, m, k, n, c.data());
          double worst = 0.0;
          for (size_t i = 0; i < m; ++i) {
            for (size_t j = 0; j < n; ++j) {
              double sum = 0.0;
              for (size_t at = 0; at < k; ++at) {
                sum += double{a[a_transposed ? at * m + i : i * k + at]} *
                       double{b[b_transposed ? j * k + at : at * n + j]};
              }
              worst = std::max(worst, std::abs(sum - double{c[i * n + j]}));
            }
          }
          CHECK(worst < 1e-5 * std::sqrt(double{1.0 * k}) + 1e-6);
        }
      }
    }
  });
}

TEST_CASE("dense products with a vector, from both sides") {
  on_every_target([] {
    INFO(std::string(target_name()));
    Rng rng(4);
    for (const auto& [m, n] : std::vector<std::array<uint32_t, 2>>{{1, 1}, {3, 7}, {40, 131}, {9, 64}}) {
      const std::vector<float> a = random_matrix(rng, m * n), x = random_matrix(rng, n), y = random_matrix(rng, m);
      std::vector<float> right(m), left(n), both(n);
      multiply_vector(a.data(), m, n, x.data(), right.data());
      normal_vector(a.data(), m, n, x.data(), both.data());
      vector_multiply(y.data(), a.data(), m, n, left.data());
      for (size_t i = 0; i < m; ++i) {
        double sum = 0.0;
        for (size_t j = 0; j < n; ++j) sum += double{a[i * n + j]} * double{x[j]};
        CHECK(double{right[i]} == doctest::Approx(sum).epsilon(1e-5).scale(1.0));
      }
      for (size_t j = 0; j < n; ++j) {
        double sum = 0.0;
        for (size_t i = 0; i < m; ++i) sum += double{a[i * n + j]} * double{y[i]};
        CHECK(double{left[j]} == doctest::Approx(sum).epsilon(1e-5).scale(1.0));
        double twice = 0.0;
        for (size_t i = 0; i < m; ++i) twice += double{a[i * n + j]} * double{right[i]};
        CHECK(double{both[j]} == doctest::Approx(twice).epsilon(1e-5).scale(1.0));
      }
    }
  });
}

TEST_CASE("rows of exponentials: the largest found or given, with and without bias") {
  on_every_target([] {
    INFO(std::string(target_name()));
    Rng rng(5);
    const uint32_t m = 5, n = 37;
    const std::vector<float> logits = random_matrix(rng, m * n), bias = random_matrix(rng, n);
    for (const bool biased : {false, true}) {
      const auto logit = [&](size_t i, size_t j) {
        return 8.0 * double{logits[i * n + j]} + (biased ? double{bias[j]} : 0.0);
      };
      std::vector<float> found = logits, given = logits, largest(m), sum(m), given_sum(m);
      softmax_rows(found.data(), m, n, 8.0F, biased ? bias.data() : nullptr, largest.data(), sum.data());
      for (size_t i = 0; i < m; ++i) {
        double most = logit(i, 0), total = 0.0;
        for (size_t j = 0; j < n; ++j) most = std::max(most, logit(i, j));
        for (size_t j = 0; j < n; ++j) total += std::exp(logit(i, j) - most);
        CHECK(double{largest[i]} == doctest::Approx(most).epsilon(1e-6));
        CHECK(double{sum[i]} == doctest::Approx(total).epsilon(1e-5));
        for (size_t j = 0; j < n; ++j)
          CHECK(double{found[i * n + j]} == doctest::Approx(std::exp(logit(i, j) - most)).epsilon(1e-5));
        largest[i] += 1.5F;
      }
      exponentials(given.data(), m, n, 8.0F, biased ? bias.data() : nullptr, largest.data(), given_sum.data());
      for (size_t i = 0; i < m; ++i)
        CHECK(double{given_sum[i]} == doctest::Approx(double{sum[i]} * std::exp(-1.5)).epsilon(1e-5));
      std::vector<float> low(m, -100.0F), ones = logits;
      exponentials(ones.data(), m, n, 8.0F, nullptr, low.data(), given_sum.data());
      CHECK(ones[3] == 1.0F);  // a largest that is too small does not overflow
    }
  });
}

}  // namespace kvmerger::kernels
