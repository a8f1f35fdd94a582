#include "eval/full_cache.h"

#include "core/clock.h"
#include "core/error.h"
#include "engine/prompt.h"

namespace kvmerger::eval {
namespace {

engine::RunHooks showing(const Reading& reading, const char* doing) {
  engine::RunHooks hooks = reading.hooks;
  hooks.progress = [&reading, doing](uint32_t done, uint32_t total) {
    reading.doing(cat(doing, ' ', reading.what, ": ", done, " of ", total, " tokens"));
  };
  return hooks;
}

}  // namespace

FullCache read_full(Reading reading, std::span<const engine::Token> tokens) {
  engine::SessionOptions& options = reading.options;
  if (options.needs.reconstruction) options.repeat_prompt = engine::repeat_prompt(reading.tokenizer);
  FullCache cache{std::make_unique<engine::Session>(reading.model, options)};
  auto start = Clock::now();
  cache.session->extend(tokens, true, showing(reading, "reading"));
  cache.prefill_s = seconds_since(start);
  cache.statistics_s = cache.session->statistics_seconds();
  if (!options.needs.reconstruction) return cache;
  start = Clock::now();
  cache.session->reconstruct(showing(reading, "repeating"));
  cache.reconstruction_s = seconds_since(start);
  return cache;
}

double compaction_seconds(const FullCache& cache, const engine::Compactor& compactor,
                          const engine::CompactionReport& report) {
  return report.seconds + (compactor.needs().reconstruction ? cache.reconstruction_s : 0.0);
}

size_t cache_bytes(const engine::Session& session) { return session.bytes().used - session.statistics_bytes(); }

}  // namespace kvmerger::eval
