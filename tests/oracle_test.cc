// Tests of what other tests stand on: libllama as the oracle, the toy models, and stories260K.
#include "oracle.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "stories260k.h"
#include "text/tokenizer.h"
#include "toy_model.h"

namespace kvmerger::test {
namespace {

std::vector<int32_t> random_tokens(uint32_t count, uint32_t vocabulary) {
  Rng rng(5);
  std::vector<int32_t> tokens;
  while (tokens.size() < count) tokens.push_back(static_cast<int32_t>(rng.below(vocabulary)));
  return tokens;
}

double nmse(const std::vector<float>& found, const std::vector<float>& expected) {
  REQUIRE(found.size() == expected.size());
  double error = 0, power = 0;
  for (size_t index = 0; index < found.size(); ++index) {
    error += std::pow(double{found[index]} - double{expected[index]}, 2);
    power += std::pow(double{expected[index]}, 2);
  }
  return error / power;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Bounds {  // on the NMSE to the whole prompt in f32
  double steps = 1e-10, f16 = 1e-5;
};

// libllama loads it, its logits say something, and both ways to feed the tokens and both types of cache agree.
std::vector<float> check_model(const ToyParams& params, const Bounds& bounds = {}) {
  CAPTURE(params.arch);
  CAPTURE(std::string(ggml_type_name(params.type)));
  const ToyModel model(params);
  const std::vector<int32_t> tokens = random_tokens(50, params.n_vocab);
  std::vector<float> whole = llama_logits(model.path(), tokens, KvType::kF32, false);
  REQUIRE(whole.size() == tokens.size() * params.n_vocab);
  double sum = 0, squares = 0;
  for (const float logit : whole) {
    sum += double{logit};
    squares += double{logit} * double{logit};
  }
  const double mean = sum / static_cast<double>(whole.size());
  const double deviation = std::sqrt(squares / static_cast<double>(whole.size()) - mean * mean);
  CHECK(deviation > 0.1);  // false for NaN
  CHECK(deviation < 100);
  CHECK(nmse(llama_logits(model.path(), tokens, KvType::kF32, true), whole) < bounds.steps);
  CHECK(nmse(llama_logits(model.path(), tokens, KvType::kF16, false), whole) < bounds.f16);
  return whole;
}

ToyParams arch(const char* name) {
  ToyParams params;
  params.arch = name;
  params.qkv_bias = params.arch == "qwen2";
  return params;
}

// -log of the probability of each token after the first, [tokens - 1]; logits [tokens, vocabulary].
std::vector<double> losses(const std::vector<float>& logits, const std::vector<int32_t>& tokens) {
  const size_t vocabulary = logits.size() / tokens.size();
  std::vector<double> result;
  for (size_t place = 0; place + 1 < tokens.size(); ++place) {
    const float* row = logits.data() + place * vocabulary;
    double sum = 0;
    for (size_t token = 0; token < vocabulary; ++token) sum += std::exp(double{row[token]});
    result.push_back(std::log(sum) - double{row[tokens[place + 1]]});
  }
  return result;
}

bool stories_there() {
  if (stories260k().empty()) MESSAGE("skipped: no stories260K; set KVMERGER_DATA to the folder of the data");
  return !stories260k().empty();
}

}  // namespace

TEST_CASE("toy models: every architecture with every option") {
  for (const char* name : {"llama", "qwen2", "qwen3"}) {
    const std::vector<float> plain = check_model(arch(name));
    const auto differs = [&](const ToyParams& params) { CHECK(nmse(check_model(params), plain) > 1e-6); };
    ToyParams params = arch(name);
    params.tied = true;
    differs(params);
    params = arch(name);
    params.qkv_bias = !params.qkv_bias;
    differs(params);
    params = arch(name);
    params.seed = 2;
    differs(params);
    params = arch(name);
    params.n_head_kv = 4;
    differs(params);
    params = arch(name);
    params.n_layer = 3;
    params.n_head_kv = 1;
    differs(params);
    params = arch(name);
    params.n_embd = 96;
    params.n_head = 6;
    params.n_ff = 160;
    params.n_vocab = 97;
    check_model(params);
  }
  for (const char* name : {"llama", "qwen3"}) {  // libllama's qwen2 has heads of n_embd / n_head only
    ToyParams params = arch(name);
    params.head_dim = 32;
    check_model(params);
  }
}

TEST_CASE("toy models: RoPE scaling") {
  for (const char* name : {"llama", "qwen2", "qwen3"}) {
    std::vector<std::vector<float>> seen = {check_model(arch(name))};
    for (const auto scaling : {ToyRope::kLinear, ToyRope::kYarn, ToyRope::kLlama3}) {
      if (scaling == ToyRope::kLlama3 && name != std::string("llama")) continue;
      ToyParams params = arch(name);
      params.rope.scaling = scaling;
      params.rope.factor = 8;
      params.rope.original_context = 32;
      seen.push_back(check_model(params));
      for (size_t other = 0; other + 1 < seen.size(); ++other) CHECK(nmse(seen.back(), seen[other]) > 1e-6);
    }
    ToyParams params = arch(name);
    params.rope.base = 500;
    CHECK(nmse(check_model(params), seen[0]) > 1e-6);
  }
}

TEST_CASE("toy models: quantised weights are near the f32 ones") {
  ToyParams params;
  params.n_embd = params.n_ff = 256;  // the block of the K types
  const std::vector<float> exact = check_model(params);
  // Random weights are hard on quantisation: these are about twice the errors seen.
  struct {
    ggml_type type;
    double bound;
  } const types[] = {{GGML_TYPE_F16, 1e-5},  {GGML_TYPE_BF16, 5e-4}, {GGML_TYPE_Q8_0, 5e-3},
                     {GGML_TYPE_Q6_K, 0.04}, {GGML_TYPE_Q5_K, 0.15}, {GGML_TYPE_Q5_0, 0.15},
                     {GGML_TYPE_Q4_K, 0.5},  {GGML_TYPE_Q4_1, 0.5},  {GGML_TYPE_Q4_0, 0.5}};
  // The products round their input to 8 bits; the least difference in it may tip that.
  const Bounds rounding{1e-3, 5e-3};
  for (const auto& [type, bound] : types) {
    params.type = type;
    const double error = nmse(check_model(params, rounding), exact);
    CAPTURE(std::string(ggml_type_name(type)));
    CHECK(error > 0);
    CHECK(error < bound);
  }
}

TEST_CASE("toy models: the same parameters give the same bytes") {
  const ToyModel first(arch("qwen3")), second(arch("qwen3"));
  CHECK(first.path() != second.path());
  const std::string bytes = read_file(first.path());
  CHECK(bytes.starts_with("GGUF"));
  CHECK(bytes == read_file(second.path()));
}

TEST_CASE("oracle: greedy continues with the largest logit, and what is no model is an error") {
  const ToyModel model(arch("llama"));
  std::vector<int32_t> tokens = random_tokens(7, 128);
  const std::vector<int32_t> chosen = llama_greedy(model.path(), tokens, 5, KvType::kF32);
  REQUIRE(chosen.size() == 5);
  for (const int32_t token : chosen) {
    const std::vector<float> logits = llama_logits(model.path(), tokens, KvType::kF32, false);
    for (size_t place = logits.size() - 128; place < logits.size(); ++place) {
      CHECK(logits[place] <= logits[logits.size() - 128 + static_cast<size_t>(token)]);
    }
    tokens.push_back(token);
  }
  CHECK_THROWS_AS(llama_logits("/dev/null", tokens, KvType::kF32, false), Error);
}

TEST_CASE("stories260K: greedy text from BOS as in llama2.c") {
  if (!stories_there()) return;
  const text::Tokenizer tokenizer(stories260k());
  REQUIRE(tokenizer.bos() == 1);
  const std::string expected =
      " Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw "
      "a "
      "big, red ball. She wanted to play with it, but it was too high";
  for (const KvType type : {KvType::kF32, KvType::kF16}) {
    const std::string text = tokenizer.decode(llama_greedy(stories260k(), std::vector<int32_t>{1}, 100, type), false);
    CHECK(text.substr(0, expected.size()) == expected);
  }
}

TEST_CASE("stories260K: perplexity as measured by others") {
  if (!stories_there()) return;
  const text::Tokenizer tokenizer(stories260k());
  const std::vector<int32_t> tokens =
      tokenizer.encode("One day, a clever fox found a shiny key under the old oak tree.", true, false);
  REQUIRE(tokens.size() == 35);
  for (const bool token_by_token : {false, true}) {
    double sum = 0;
    for (const double loss : losses(llama_logits(stories260k(), tokens, KvType::kF32, token_by_token), tokens))
      sum += loss;
    CHECK(sum == doctest::Approx(54.40415).epsilon(2e-6));
    CHECK(std::exp(sum / 34) == doctest::Approx(4.95364).epsilon(2e-6));
  }
}

}  // namespace kvmerger::test
