#include "text/sampler.h"

#include <llama-cpp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace kvmerger::text {
namespace {

// Below this the division by the temperature may overflow, and one token has all the probability anyway.
constexpr float kGreedyBelow = 1e-6F;
// libllama allocates the penalties' window at once; ours begins with this and doubles as tokens come.
constexpr int32_t kFirstWindow = 1024;

void check_range(std::string_view flag, float value, float least, float most) {
  if (value >= least && value <= most) return;  // false for NaN
  throw UsageError(cat(flag, " is ", value, "; it must be from ", least, " to ", most));
}

void check_finite(std::string_view flag, float value) {
  if (!std::isfinite(value)) throw UsageError(cat(flag, " is ", value, "; it must be a finite number"));
}

void check(const SamplerParams& params) {
  check_finite("--temp", params.temperature);
  check_range("--top-p", params.top_p, 0, 1);
  check_range("--min-p", params.min_p, 0, 1);
  if (params.repeat_last_n < -1) {
    throw UsageError(
        cat("--repeat-last-n is ", params.repeat_last_n, "; it must be -1 (all tokens), 0 (none) or more"));
  }
  check_finite("--repeat-penalty", params.repeat_penalty);
  if (!(params.repeat_penalty > 0) || !std::isfinite(1 / params.repeat_penalty)) {
    throw UsageError(cat("--repeat-penalty is ", params.repeat_penalty, "; it must be above 0"));
  }
  check_finite("--presence-penalty", params.presence_penalty);
  check_finite("--frequency-penalty", params.frequency_penalty);
}

uint32_t resolve_seed(uint32_t seed) {
  std::random_device device;
  while (seed == UINT32_MAX) seed = device();
  return seed;
}

std::vector<llama_logit_bias> forbidden(const Tokenizer& tokenizer, bool ignore_eos) {
  std::vector<llama_logit_bias> biases;
  for (const Token token : tokenizer.suppressed()) biases.push_back({token, -INFINITY});
  for (uint32_t id = 0; ignore_eos && id < tokenizer.size(); ++id) {
    const auto token = static_cast<Token>(id);
    if (tokenizer.ends_generation(token)) biases.push_back({token, -INFINITY});
  }
  return biases;
}

int32_t penalty_window(const SamplerParams& params) {
  const bool neutral = params.repeat_penalty == 1 && params.presence_penalty == 0 && params.frequency_penalty == 0;
  if (neutral) return 0;
  return params.repeat_last_n == -1 ? INT32_MAX : params.repeat_last_n;
}

// What follows the penalties, in llama.cpp's order.
llama_sampler_ptr make_choice(const SamplerParams& params) {
  if (params.temperature < kGreedyBelow) return llama_sampler_ptr(llama_sampler_init_greedy());
  llama_sampler_ptr chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  for (llama_sampler* step : {llama_sampler_init_top_k(params.top_k), llama_sampler_init_top_p(params.top_p, 0),
                              llama_sampler_init_min_p(params.min_p, 0), llama_sampler_init_temp(params.temperature),
                              llama_sampler_init_dist(params.seed)}) {
    llama_sampler_chain_add(chain.get(), step);  // takes it over
  }
  return chain;
}

}  // namespace

struct Sampler::Impl {
  SamplerParams params;  // with the seed in use
  int32_t vocabulary = 0;
  // libllama applies these one after the other. The penalties are apart because their window may have to grow.
  llama_sampler_ptr bias, penalties, choice;
  int32_t window = 0, full_window = 0;       // how many tokens the penalties look at: now, and when there are enough
  std::vector<Token> accepted;               // all tokens, until the window is full
  std::vector<llama_token_data> candidates;  // [vocabulary], filled anew for each token

  void make_penalties(int32_t size);
  void accept(Token token);
  void fill(std::span<const float> logits);
};

void Sampler::Impl::make_penalties(int32_t size) {
  window = size;
  penalties.reset(llama_sampler_init_penalties(vocabulary, size, params.repeat_penalty, params.frequency_penalty,
                                               params.presence_penalty));
  for (const Token token : accepted) llama_sampler_accept(penalties.get(), token);
}

void Sampler::Impl::accept(Token token) {
  llama_sampler_accept(penalties.get(), token);
  if (window == full_window) return;
  accepted.push_back(token);
  if (accepted.size() < static_cast<size_t>(window)) return;
  make_penalties(window > full_window / 2 ? full_window : 2 * window);
  if (window == full_window) accepted = {};
}

void Sampler::Impl::fill(std::span<const float> logits) {
  KVM_CHECK(logits.size() == static_cast<size_t>(vocabulary));
  bool usable = true;
  for (size_t id = 0; id < logits.size(); ++id) {
    usable &= logits[id] < INFINITY;  // false for NaN, too
    candidates[id] = {static_cast<Token>(id), logits[id], 0};
  }
  if (!usable) throw Error("the model's logits hold NaN or infinity; its file may be damaged");
}

Sampler::Sampler(const Tokenizer& tokenizer, const SamplerParams& params) : impl_(std::make_unique<Impl>()) {
  check(params);
  impl_->params = params;
  impl_->params.seed = resolve_seed(params.seed);
  impl_->vocabulary = static_cast<int32_t>(tokenizer.size());
  impl_->candidates.resize(tokenizer.size());
  const std::vector<llama_logit_bias> biases = forbidden(tokenizer, params.ignore_eos);
  impl_->bias.reset(
      llama_sampler_init_logit_bias(impl_->vocabulary, static_cast<int32_t>(biases.size()), biases.data()));
  impl_->full_window = penalty_window(params);
  impl_->make_penalties(std::min(impl_->full_window, kFirstWindow));
  impl_->choice = make_choice(impl_->params);
}

Sampler::~Sampler() = default;

void Sampler::accept(Token token) { impl_->accept(token); }

Token Sampler::sample(std::span<const float> logits) {
  impl_->fill(logits);
  llama_token_data_array array{impl_->candidates.data(), impl_->candidates.size(), -1, false};
  for (llama_sampler* step : {impl_->bias.get(), impl_->penalties.get(), impl_->choice.get()}) {
    llama_sampler_apply(step, &array);
  }
  KVM_CHECK(array.selected >= 0 && static_cast<size_t>(array.selected) < array.size);
  const Token token = array.data[array.selected].id;
  impl_->accept(token);
  return token;
}

void Sampler::reset() {
  impl_->accepted.clear();
  llama_sampler_reset(impl_->penalties.get());
  llama_sampler_reset(impl_->choice.get());
}

uint32_t Sampler::seed() const { return impl_->params.seed; }

}  // namespace kvmerger::text
