#include "text/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "text/test_vocabulary.h"

namespace kvmerger::text {
namespace {

const Tokenizer& numbered(uint32_t size) {
  static std::map<uint32_t, Tokenizer> all;
  const auto found = all.find(size);
  if (found != all.end()) return found->second;
  const TemporaryFile file(numbered_vocabulary(size).bytes());
  return all.try_emplace(size, file.path()).first->second;
}

std::vector<float> random_logits(uint32_t size, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = static_cast<float>(8 * rng.uniform() - 4);
  return logits;
}

// The distribution that params ask for, from the definitions: keep the top_k largest; of those, by the probabilities at
// temperature 1, the fewest whose sum reaches top_p; of those, the ones with min_p of the largest; then the
// temperature.
std::map<Token, double> distribution(const std::vector<float>& logits, const SamplerParams& params) {
  std::vector<Token> kept;
  for (size_t id = 0; id < logits.size(); ++id) kept.push_back(static_cast<Token>(id));
  const auto logit = [&](Token token) { return double{logits[static_cast<size_t>(token)]}; };
  std::sort(kept.begin(), kept.end(), [&](Token a, Token b) { return logit(a) > logit(b); });
  if (params.top_k > 0) kept.resize(std::min(kept.size(), static_cast<size_t>(params.top_k)));
  const auto softmax = [&](double temperature) {
    std::map<Token, double> weights;
    double sum = 0;
    for (const Token token : kept) sum += weights[token] = std::exp((logit(token) - logit(kept[0])) / temperature);
    for (auto& [token, weight] : weights) weight /= sum;
    return weights;
  };
  std::map<Token, double> weights = softmax(1);
  double sum = 0;
  size_t count = 0;
  while (count < kept.size() && (sum < double{params.top_p} || count == 0)) sum += weights[kept[count++]];
  kept.resize(count);
  std::erase_if(kept, [&](Token token) { return weights[token] < double{params.min_p} * weights[kept[0]]; });
  return softmax(params.temperature);
}

// Draws often; every token must be allowed, and its count within five standard deviations (and five, for rare tokens,
// whose counts are not normal).
void check_frequencies(uint32_t size, const SamplerParams& params, size_t least_allowed, size_t most_allowed) {
  CAPTURE(params.top_k);
  CAPTURE(params.top_p);
  CAPTURE(params.min_p);
  CAPTURE(params.temperature);
  const std::vector<float> logits = random_logits(size, 11);
  const std::map<Token, double> expected = distribution(logits, params);
  REQUIRE(expected.size() >= least_allowed);
  REQUIRE(expected.size() <= most_allowed);
  Sampler sampler(numbered(size), params);
  constexpr double kDraws = 20000;
  std::map<Token, double> counts;
  for (int draw = 0; draw < kDraws; ++draw) ++counts[sampler.sample(logits)];
  for (const auto& [token, count] : counts) CHECK_MESSAGE(expected.contains(token), "token ", token, " is not allowed");
  for (const auto& [token, share] : expected) {
    CHECK(std::abs(counts[token] - kDraws * share) <= 5 * std::sqrt(kDraws * share * (1 - share)) + 5);
  }
}

SamplerParams plain(float temperature) {
  SamplerParams params;
  params.temperature = temperature;
  params.top_k = 0;
  params.top_p = 1;
  params.min_p = 0;
  params.seed = 42;
  return params;
}

Token argmax(const std::vector<double>& values) {
  return static_cast<Token>(std::max_element(values.begin(), values.end()) - values.begin());
}

// The penalties' formula on tokens seen, the last `last_n` of them (-1: all).
std::vector<double> penalised(const std::vector<float>& logits, const std::vector<Token>& seen,
                              const SamplerParams& params) {
  const size_t window = params.repeat_last_n < 0 ? seen.size() : static_cast<size_t>(params.repeat_last_n);
  std::vector<double> result(logits.begin(), logits.end());
  std::map<Token, double> counts;
  for (size_t place = seen.size() - std::min(seen.size(), window); place < seen.size(); ++place) ++counts[seen[place]];
  for (const auto& [token, count] : counts) {
    double& logit = result[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / double{params.repeat_penalty} : logit * double{params.repeat_penalty};
    logit -= count * double{params.frequency_penalty} + double{params.presence_penalty};
  }
  return result;
}

// Greedy on new random logits each time; the tokens chosen are seen, too.
void check_penalties(SamplerParams params, size_t prompt_tokens) {
  CAPTURE(params.repeat_last_n);
  constexpr uint32_t kSize = 40;
  params.temperature = 0;
  Sampler sampler(numbered(kSize), params);
  Rng rng(3);
  std::vector<Token> seen;
  for (size_t place = 0; place < prompt_tokens; ++place) {
    seen.push_back(static_cast<Token>(rng.below(kSize)));
    sampler.accept(seen.back());
  }
  int changed = 0;
  for (uint64_t round = 0; round < 200; ++round) {
    const std::vector<float> logits = random_logits(kSize, round);
    const Token expected = argmax(penalised(logits, seen, params));
    changed += expected != argmax({logits.begin(), logits.end()});
    REQUIRE(sampler.sample(logits) == expected);
    seen.push_back(expected);
  }
  CHECK((changed > 0) == (params.repeat_last_n != 0));
}

std::vector<Token> draw(Sampler& sampler, int count) {
  std::vector<Token> tokens;
  for (int place = 0; place < count; ++place) tokens.push_back(sampler.sample(random_logits(50, 5)));
  return tokens;
}

void check_refused(const std::string& flag, SamplerParams params) {
  CAPTURE(flag);
  std::string message;
  try {
    Sampler(numbered(50), params);
  } catch (const UsageError& error) {
    message = error.what();
  }
  CHECK(message.starts_with(flag + " is "));
}

}  // namespace

TEST_CASE("sampler: frequencies follow the definitions") {
  SUBCASE("temperature") {
    check_frequencies(50, plain(1), 50, 50);
    check_frequencies(50, plain(0.5F), 50, 50);
    check_frequencies(50, plain(3), 50, 50);
  }
  SUBCASE("top_k") {
    SamplerParams params = plain(0.8F);
    for (const int32_t top_k : {1, 2, 7, 50, 1000}) {
      params.top_k = top_k;
      check_frequencies(50, params, std::min(static_cast<size_t>(top_k), size_t{50}), static_cast<size_t>(top_k));
    }
  }
  SUBCASE("top_p") {
    SamplerParams params = plain(1.2F);
    for (const float top_p : {0.0F, 0.3F, 0.9F, 0.999F}) {
      params.top_p = top_p;
      check_frequencies(50, params, 1, 49);
    }
    params.top_p = 0.9F;
    check_frequencies(3000, params, 500, 2999);  // libllama has another way for more than 1,024 tokens
  }
  SUBCASE("min_p") {
    SamplerParams params = plain(0.7F);
    for (const float min_p : {0.02F, 0.3F, 1.0F}) {
      params.min_p = min_p;
      check_frequencies(50, params, 1, 49);
    }
    params.min_p = 0.3F;
    check_frequencies(3000, params, 100, 2999);
  }
  SUBCASE("all of them, the defaults") {
    SamplerParams params;
    params.seed = 9;
    check_frequencies(50, params, 2, 39);
    check_frequencies(3000, params, 2, 40);
    params.min_p = 0.6F;
    params.top_p = 0.7F;
    params.temperature = 2;
    check_frequencies(50, params, 2, 20);
  }
}

TEST_CASE("sampler: greedy takes the largest logit, the first of equals") {
  for (const float temperature : {0.0F, -1.0F, 1e-9F}) {
    SamplerParams params = plain(temperature);
    params.top_k = 40;
    Sampler sampler(numbered(50), params);
    for (uint64_t seed = 0; seed < 100; ++seed) {
      const std::vector<float> logits = random_logits(50, seed);
      CHECK(sampler.sample(logits) == argmax({logits.begin(), logits.end()}));
    }
    std::vector<float> equal(50, 1.5F);
    CHECK(sampler.sample(equal) == 0);
    equal[17] = equal[31] = 2;
    CHECK(sampler.sample(equal) == 17);
  }
}

TEST_CASE("sampler: penalties change the choice as their formula says") {
  SamplerParams params = plain(0);
  for (const int32_t last_n : {0, 1, 5, 64, -1}) {
    params.repeat_last_n = last_n;
    params.repeat_penalty = 1.3F;
    params.presence_penalty = 0;
    params.frequency_penalty = 0;
    check_penalties(params, 10);
    params.presence_penalty = 0.7F;
    params.frequency_penalty = 0.2F;
    check_penalties(params, 100);
    params.repeat_penalty = 1;
    params.presence_penalty = -0.5F;
    params.frequency_penalty = 0;
    check_penalties(params, 3);
  }
  // Long texts: nothing is forgotten with -1, and what is out of a long window is.
  params = plain(0);
  params.frequency_penalty = 0.01F;
  for (const int32_t last_n : {-1, 1024, 1025, 3000, INT32_MAX}) {
    params.repeat_last_n = last_n;
    check_penalties(params, 5000);
  }
}

TEST_CASE("sampler: penalties hold when sampling, too") {
  SamplerParams params = plain(1);
  params.presence_penalty = 1000;
  Sampler sampler(numbered(50), params);
  std::vector<Token> tokens = draw(sampler, 50);  // each token once, since a token seen is never better than a new one
  std::sort(tokens.begin(), tokens.end());
  for (Token token = 0; token < 50; ++token) CHECK(tokens[static_cast<size_t>(token)] == token);
}

TEST_CASE("sampler: tokens that must not be generated") {
  std::vector<float> logits(50, 0);
  logits[3] = 100;
  logits[7] = 90;
  logits[20] = 80;
  for (const float temperature : {0.0F, 1.0F}) {
    SamplerParams params = plain(temperature);
    CHECK(Sampler(numbered(50), params).sample(logits) == 3);
    params.ignore_eos = true;
    CHECK(Sampler(numbered(50), params).sample(logits) == 7);
    const TemporaryFile file(
        numbered_vocabulary(50).add("tokenizer.ggml.suppress_tokens", std::vector<int32_t>{7}).bytes());
    CHECK(Sampler(Tokenizer(file.path()), params).sample(logits) == 20);
  }
}

TEST_CASE("sampler: the seed decides, and seed() tells it") {
  const SamplerParams fixed = plain(1);
  Sampler first(numbered(50), fixed), second(numbered(50), fixed);
  const std::vector<Token> tokens = draw(first, 50);
  CHECK(first.seed() == 42);
  CHECK(draw(second, 50) == tokens);
  SamplerParams other = fixed;
  other.seed = 43;
  Sampler third(numbered(50), other);
  CHECK(draw(third, 50) != tokens);

  SamplerParams random = fixed;
  random.seed = UINT32_MAX;
  Sampler fourth(numbered(50), random), fifth(numbered(50), random);
  CHECK(fourth.seed() != UINT32_MAX);
  CHECK(fourth.seed() != fifth.seed());
  const std::vector<Token> drawn = draw(fourth, 50);
  random.seed = fourth.seed();
  Sampler again(numbered(50), random);
  CHECK(draw(again, 50) == drawn);
}

TEST_CASE("sampler: reset forgets the tokens and begins at the seed") {
  SamplerParams params = plain(1);
  params.repeat_last_n = -1;
  params.presence_penalty = 2;
  Sampler sampler(numbered(50), params);
  const std::vector<Token> tokens = draw(sampler, 2000);
  CHECK(draw(sampler, 2000) != tokens);
  sampler.reset();
  CHECK(draw(sampler, 2000) == tokens);
}

TEST_CASE("sampler: values out of range are refused by the name of their flag") {
  const auto refused = [](const std::string& flag, auto SamplerParams::* field, auto value) {
    SamplerParams params;
    params.*field = value;
    check_refused(flag, params);
  };
  refused("--temp", &SamplerParams::temperature, NAN);
  refused("--temp", &SamplerParams::temperature, INFINITY);
  refused("--top-p", &SamplerParams::top_p, -0.01F);
  refused("--top-p", &SamplerParams::top_p, 1.01F);
  refused("--top-p", &SamplerParams::top_p, NAN);
  refused("--min-p", &SamplerParams::min_p, -0.01F);
  refused("--min-p", &SamplerParams::min_p, 1.01F);
  refused("--repeat-last-n", &SamplerParams::repeat_last_n, -2);
  refused("--repeat-penalty", &SamplerParams::repeat_penalty, 0.0F);
  refused("--repeat-penalty", &SamplerParams::repeat_penalty, -1.0F);
  refused("--repeat-penalty", &SamplerParams::repeat_penalty, 1e-44F);
  refused("--repeat-penalty", &SamplerParams::repeat_penalty, INFINITY);
  refused("--presence-penalty", &SamplerParams::presence_penalty, NAN);
  refused("--frequency-penalty", &SamplerParams::frequency_penalty, -INFINITY);
}

TEST_CASE("sampler: logits that are not numbers are an error, minus infinity is a ban") {
  std::vector<float> logits(50, 0);
  Sampler sampler(numbered(50), plain(1));
  for (const float bad : {NAN, INFINITY}) {
    logits[30] = bad;
    CHECK_THROWS_AS(sampler.sample(logits), Error);
  }
  std::fill(logits.begin(), logits.end(), -INFINITY);
  logits[30] = -5;
  CHECK(sampler.sample(logits) == 30);
}

}  // namespace kvmerger::text
