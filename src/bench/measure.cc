#include "bench/measure.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/machine.h"
#include "core/clock.h"
#include "core/error.h"
#include "engine/calibration_text.h"
#include "engine/machine.h"
#include "engine/prompt.h"

namespace kvmerger::bench {
namespace {

size_t mib(size_t bytes) { return (bytes + (1U << 20) - 1) >> 20; }

// Each repetition works on a copy of the filled cache, which is there twice unless compaction has made it small.
// Streaming keeps it small from the start: what that needs is not known here.
void check_memory(const Ready& ready, const Setting& setting, uint32_t depth, uint32_t more) {
  const bool active = ready.compactor.active();
  if (active && ready.moments.stream) return;
  const size_t copies = active && ready.moments.prefill ? 1 : 2;
  const size_t token = engine::cache_bytes_per_token(ready.model->config(), setting.key_type, setting.value_type);
  const size_t needed = token * (copies * depth + more), available = engine::available_memory();
  if (needed <= available) return;
  throw Error(cat("a cache of ", depth + more, " tokens (-d, and -p or -n) needs ", mib(needed), " MiB",
                  copies > 1 ? " with its copy" : "", ", but ", mib(available),
                  " MiB are available; use a smaller -d, a smaller cache type (-ctk, -ctv), or --kv-budget with ",
                  "--kv-when stream"));
}

// So that graph, threads and memory are there when the clock starts.
void warm_up(engine::Session& session, const EndlessText& text, const Test& test, const engine::RunHooks& hooks) {
  const uint32_t count = test.generate > 0 ? 1 : std::min(test.prompt, session.batch());
  session.extend(text.tokens(test.depth, count), false, hooks);
  session.rewind(test.depth);
}

void read(engine::Session& session, engine::Keeper& keeper, bool document, std::span<const Token> tokens,
          const engine::RunHooks& hooks) {
  if (document) {
    keeper.read(session, tokens, hooks);
  } else {
    keeper.read_on(session, tokens, hooks);
  }
}

// Rows that were read for all tokens together. Every token reads those before it and its own.
double generate(engine::Session& session, engine::Keeper& keeper, std::span<const Token> tokens,
                const engine::RunHooks& hooks) {
  const engine::RunHooks silent{nullptr, hooks.cancelled};  // a line on the terminal for every token would take time
  uint64_t rows = 0;
  for (const Token token : tokens) {
    rows += session.rows() + session.heads();
    keeper.add(session, token, silent);
  }
  return static_cast<double>(rows);
}

void repeat(const Ready& ready, engine::Session& session, const EndlessText& text, const Test& test,
            const engine::RunHooks& hooks, Measured& measured) {
  warm_up(session, text, test, hooks);
  const std::vector<Token> tokens = text.tokens(test.depth, test.tokens());
  engine::Keeper keeper(ready.compactor, ready.moments);
  const auto start = Clock::now();
  if (test.generate > 0) {
    measured.rows_read = generate(session, keeper, tokens, hooks) / test.generate;
  } else {
    read(session, keeper, ready.moments.stream || test.depth == 0, tokens, hooks);
  }
  measured.speeds.push_back(test.tokens() / seconds_since(start));
  if (keeper.report()) measured.compaction_seconds += keeper.report()->seconds;
  measured.rows = session.rows();
  measured.bytes = session.bytes().used;
  measured.bytes_peak = std::max(measured.bytes_peak, session.bytes().peak);
}

}  // namespace

EndlessText::EndlessText(const text::Tokenizer& tokenizer) {
  std::string all;
  for (const std::string_view text : engine::calibration_texts()) all += text;
  once_ = tokenizer.encode(all, true, false);
  if (once_.empty()) throw Error("the model's vocabulary makes no tokens of a text; is the file a text model?");
}

std::vector<Token> EndlessText::tokens(uint32_t begin, uint32_t count) const {
  std::vector<Token> tokens(count);
  for (size_t index = 0; index < count; ++index) tokens[index] = once_[(begin + index) % once_.size()];
  return tokens;
}

Ready::Ready(const Method& method, const std::shared_ptr<const model::Model>& model, const text::Tokenizer& tokenizer)
    : method(method),
      compactor(method.spec),
      moments(engine::parse_moments(method.when)),
      model(model),
      repeat_prompt(engine::repeat_prompt(tokenizer)) {}

Filled fill(const Ready& ready, const Setting& setting, const EndlessText& text, uint32_t depth, uint32_t more,
            const engine::RunHooks& hooks) {
  check_memory(ready, setting, depth, more);
  reset_peak_memory();
  engine::SessionOptions options{.context = depth + more,
                                 .key_type = setting.key_type,
                                 .value_type = setting.value_type,
                                 .threads = setting.threads,
                                 .batch = setting.batch,
                                 .needs = ready.compactor.needs(),
                                 .repeat_prompt = ready.repeat_prompt};
  Filled filled{std::make_unique<engine::Session>(ready.model, options)};
  engine::Session& session = *filled.session;
  engine::Keeper keeper(ready.compactor, ready.moments);
  const auto start = Clock::now();
  if (depth > 0) keeper.read(session, text.tokens(0, depth), hooks);
  filled.seconds = seconds_since(start);
  if (keeper.report()) filled.compaction_seconds = keeper.report()->seconds;
  filled.seconds -= filled.compaction_seconds;
  filled.bytes_peak = session.bytes().peak;
  filled.memory_peak = peak_memory();
  return filled;
}

Measured measure(const Ready& ready, const Filled& filled, const EndlessText& text, const Test& test,
                 uint32_t repetitions, const engine::RunHooks& hooks) {
  if (test.depth == 0) reset_peak_memory();
  Measured measured;
  measured.bytes_peak = filled.bytes_peak;
  for (uint32_t repetition = 0; repetition < repetitions; ++repetition) {
    const std::unique_ptr<engine::Session> copy = filled.session->fork();
    repeat(ready, *copy, text, test, hooks, measured);
  }
  measured.compaction_seconds /= repetitions;
  // Behind a filled cache the copies would count, which only measuring needs.
  measured.memory_peak = test.depth > 0 ? filled.memory_peak : peak_memory();
  return measured;
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation(std::span<const double> values) {
  if (values.size() < 2) return 0.0;
  double squares = 0.0;
  for (const double value : values) squares += (value - mean(values)) * (value - mean(values));
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

}  // namespace kvmerger::bench
