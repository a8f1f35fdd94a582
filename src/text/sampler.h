// Choosing the next token: libllama's samplers in llama.cpp's order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "text/tokenizer.h"

namespace kvmerger::text {

struct SamplerParams {         // names and defaults are llama.cpp's
  float temperature = 0.8F;    // <= 0: greedy
  int32_t top_k = 40;          // <= 0: off
  float top_p = 0.95F;         // 1: off
  float min_p = 0.05F;         // 0: off
  int32_t repeat_last_n = 64;  // tokens looked at by the penalties; 0: none, -1: all
  float repeat_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  uint32_t seed = UINT32_MAX;  // UINT32_MAX: random
  bool ignore_eos = false;     // never choose a token that ends generation
};

class Sampler {
 public:
  Sampler(const Tokenizer& tokenizer, const SamplerParams& params);  // throws UsageError on a value out of range
  ~Sampler();

  void accept(Token token);  // tells the penalties of a token that was not sampled (the prompt's)
  // Chooses and accepts; logits [vocabulary]. Throws Error when one is NaN or plus infinity.
  Token sample(std::span<const float> logits);
  void reset();           // forgets all tokens; the random numbers begin again at the seed
  uint32_t seed() const;  // the seed in use, also when it was random

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvmerger::text
