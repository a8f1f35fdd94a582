#include "eval/measures.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/rng.h"

namespace kvmerger::eval {
namespace {

constexpr size_t kVocabulary = 7;

std::vector<float> random_logits(Rng& rng) {
  std::vector<float> logits;
  for (size_t token = 0; token < kVocabulary; ++token) logits.push_back(static_cast<float>(8 * rng.uniform() - 4));
  return logits;
}

// Probabilities, written out.
std::vector<double> softmax(const std::vector<float>& logits) {
  double sum = 0;
  std::vector<double> p;
  for (const float logit : logits) sum += std::exp(double{logit});
  for (const float logit : logits) p.push_back(std::exp(double{logit}) / sum);
  return p;
}

size_t likeliest(const std::vector<double>& p) {
  size_t best = 0;
  for (size_t token = 1; token < p.size(); ++token) best = p[token] > p[best] ? token : best;
  return best;
}

}  // namespace

TEST_CASE("log-sum-exp, nll and argmax are those of the probabilities") {
  Rng rng(1);
  for (int round = 0; round < 20; ++round) {
    const std::vector<float> logits = random_logits(rng);
    const std::vector<double> p = softmax(logits);
    for (size_t token = 0; token < kVocabulary; ++token) {
      CHECK(nll(logits, static_cast<engine::Token>(token)) == doctest::Approx(-std::log(p[token])).epsilon(1e-12));
    }
    CHECK(argmax(logits) == likeliest(p));
  }
  const std::vector<float> large{1000.0F, 1000.0F};  // exp of them is infinite
  CHECK(log_sum_exp(large) == doctest::Approx(1000 + std::log(2.0)));
  CHECK(nll(large, 1) == doctest::Approx(std::log(2.0)));
}

TEST_CASE("kl, dnll and top1 over a text are the sums written out") {
  Rng rng(2);
  const std::vector<engine::Token> tokens{3, 0, 6, 2, 5};
  const size_t count = tokens.size();
  std::vector<std::vector<float>> full, other;
  Predictions predictions;
  for (size_t index = 0; index < count; ++index) {
    full.push_back(random_logits(rng));
    other.push_back(random_logits(rng));
    predictions.add(full.back());
  }
  Comparison comparison(predictions, tokens);
  double kl = 0, dnll = 0, same = 0;
  for (size_t index = 0; index < count; ++index) {
    comparison.add(other[index]);
    const std::vector<double> p = softmax(full[index]), q = softmax(other[index]);
    for (size_t token = 0; token < kVocabulary; ++token) kl += p[token] * std::log(p[token] / q[token]);
    if (index + 1 < count) {
      const auto next = static_cast<size_t>(tokens[index + 1]);
      dnll += std::log(p[next]) - std::log(q[next]);
    }
    same += likeliest(p) == likeliest(q) ? 1 : 0;
  }
  CHECK(comparison.kl() == doctest::Approx(kl / 5).epsilon(1e-12));
  CHECK(comparison.dnll() == doctest::Approx(dnll / 4).epsilon(1e-12));
  CHECK(comparison.top1() == doctest::Approx(same / 5));
  CHECK(comparison.kl() > 0.1);  // the test compares something
}

TEST_CASE("predictions compared with themselves differ by nothing, and by a constant too") {
  Rng rng(3);
  const std::vector<engine::Token> tokens{1, 2, 3};
  Predictions predictions;
  std::vector<std::vector<float>> logits;
  for (int index = 0; index < 3; ++index) {
    logits.push_back(random_logits(rng));
    predictions.add(logits.back());
  }
  Comparison same(predictions, tokens), shifted(predictions, tokens);
  for (std::vector<float>& row : logits) {
    same.add(row);
    for (float& logit : row) logit += 16;
    shifted.add(row);
  }
  CHECK(same.kl() == 0.0);
  CHECK(same.dnll() == 0.0);
  CHECK(same.top1() == 1.0);
  CHECK(std::abs(shifted.kl()) < 1e-6);
  CHECK(shifted.top1() == 1.0);
}

}  // namespace kvmerger::eval
