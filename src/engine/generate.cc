#include "engine/generate.h"

#include "core/clock.h"
#include "core/error.h"
#include "text/stream.h"

namespace kvmerger::engine {

Generation generate(Session& session, const text::Tokenizer& tokenizer, const GenerateOptions& options,
                    std::span<const Token> penalised, const std::function<bool(std::string_view)>& sink, Keeper& keeper,
                    const RunHooks& hooks) {
  const auto start = Clock::now();
  text::Sampler sampler(tokenizer, options.sampler);
  for (const Token token : penalised) sampler.accept(token);
  text::TextStream stream(options.stops);
  Generation result;
  result.seed = sampler.seed();
  bool wanted = true;
  const auto show = [&](const std::string& text) {
    result.text += text;
    if (wanted && !text.empty()) wanted = sink(text);
    return wanted;
  };
  const auto full = [&] {
    return options.max_tokens >= 0 && result.tokens.size() >= static_cast<size_t>(options.max_tokens);
  };
  const auto next = [&]() -> std::string {  // a finish reason, or "" to go on
    if (full()) return "length";
    const Token token = sampler.sample(session.logits());
    if (tokenizer.ends_generation(token)) return "stop";
    result.tokens.push_back(token);
    if (!show(stream.add(tokenizer.piece(token, options.special)))) return "interrupted";
    if (stream.stopped()) return "stop";
    if (full()) return "length";
    if (session.tokens().size() >= session.context()) return "context";
    keeper.add(session, token, {nullptr, hooks.cancelled});
    return "";
  };
  try {
    while ((result.finish_reason = next()).empty()) {
    }
  } catch (const Interrupted&) {
    result.finish_reason = "interrupted";
  }
  show(stream.finish());
  if (stream.stopped()) result.finish_reason = "stop";  // a stop string may become certain only at the end
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace kvmerger::engine
