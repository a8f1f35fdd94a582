// Generating an answer from a session: sampling, stop strings, whole characters only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/keeper.h"
#include "engine/session.h"
#include "text/sampler.h"
#include "text/tokenizer.h"

namespace kvmerger::engine {

struct GenerateOptions {
  int32_t max_tokens = -1;  // -1: until the model ends or the context is full
  text::SamplerParams sampler;
  std::vector<std::string> stops;
  bool special = false;  // show special tokens
};

struct Generation {
  std::string text;
  std::vector<Token> tokens;  // without the one that ended it
  std::string
      finish_reason;     // stop (end of text or stop string), length (max_tokens), context (it is full), interrupted
  double seconds = 0.0;  // from the first sampling to the end
  uint32_t seed = 0;
};

// keeper: reads the tokens and keeps the cache within its budget. Continues from the session's logits. penalised:
// tokens the penalties look back at (the prompt). sink gets text as soon as it may be shown and answers false to stop
// (then: interrupted, and it is not asked again).
Generation generate(Session& session, const text::Tokenizer& tokenizer, const GenerateOptions& options,
                    std::span<const Token> penalised, const std::function<bool(std::string_view)>& sink, Keeper& keeper,
                    const RunHooks& hooks);

}  // namespace kvmerger::engine
