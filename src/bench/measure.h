// One measurement: a cache filled to a depth as a method says, and tests that begin there.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/setting.h"
#include "engine/keeper.h"
#include "engine/session.h"
#include "text/tokenizer.h"

namespace kvmerger::bench {

using engine::Token;

// What is read: a text over and over.
class EndlessText {
 public:
  // Built-in texts in the model's tokens. Throws Error when it makes none of them.
  explicit EndlessText(const text::Tokenizer& tokenizer);
  std::vector<Token> tokens(uint32_t begin, uint32_t count) const;

 private:
  std::vector<Token> once_;
};

// A method made ready for a model. The tests' keepers refer to it.
struct Ready {
  Ready(const Method& method, const std::shared_ptr<const model::Model>& model, const text::Tokenizer& tokenizer);

  Method method;
  engine::Compactor compactor;
  engine::Moments moments;
  std::shared_ptr<const model::Model> model;
  std::vector<Token> repeat_prompt;
};

struct Filled {
  std::unique_ptr<engine::Session> session;
  double seconds = 0.0, compaction_seconds = 0.0;  // reading without compaction; compaction
  size_t bytes_peak = 0, memory_peak = 0;          // of the cache; of the process
};

// Reads `depth` tokens into a fresh session that has room for `more` behind them. Throws Error when they do not fit the
// memory, as far as can be told before, and as Keeper::read does.
Filled fill(const Ready& ready, const Setting& setting, const EndlessText& text, uint32_t depth, uint32_t more,
            const engine::RunHooks& hooks);

struct Measured {
  std::vector<double> speeds;        // tokens per second of each repetition
  double compaction_seconds = 0.0;   // in the timed part, mean over repetitions
  double rows_read = 0.0;            // by all heads together for one token; generating only
  uint64_t rows = 0;                 // of all heads, at the end
  size_t bytes = 0, bytes_peak = 0;  // of the cache at the end; at most, filling included
  size_t memory_peak = 0;
};

// Each repetition runs on a copy of the filled session, after an untimed batch (or token) for warming up. Prompts are
// read as going on with the document when compaction runs while streaming or when nothing is there yet, otherwise as a
// question behind the compacted cache.
Measured measure(const Ready& ready, const Filled& filled, const EndlessText& text, const Test& test,
                 uint32_t repetitions, const engine::RunHooks& hooks);

double mean(std::span<const double> values);
double deviation(std::span<const double> values);  // of the sample (n - 1); 0 for a single value

}  // namespace kvmerger::bench
