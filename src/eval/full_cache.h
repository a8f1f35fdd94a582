// A text read once, so that every method may compress a copy of its cache.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "engine/session.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

// A full cache with the statistics that its readers asked for.
struct FullCache {
  std::unique_ptr<engine::Session> session;
  double prefill_s = 0, statistics_s = 0;
  double reconstruction_s = 0;  // of repeating the text, for the methods that need it
};

struct Reading {
  std::shared_ptr<const model::Model> model;
  const text::Tokenizer& tokenizer;
  engine::SessionOptions options;  // with the statistics that are needed
  std::string what;                // is read, for a line of progress
  std::function<void(const std::string&)> doing;
  engine::RunHooks hooks;
};
// Reads the tokens, and has them repeated if that is needed. Throws engine::Interrupted.
FullCache read_full(Reading reading, std::span<const engine::Token> tokens);

// Of a compaction, with what it took to get its statistics, if that was more than reading.
double compaction_seconds(const FullCache& cache, const engine::Compactor& compactor,
                          const engine::CompactionReport& report);
// Of the rows, without statistics.
size_t cache_bytes(const engine::Session& session);

}  // namespace kvmerger::eval
