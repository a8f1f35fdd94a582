// Measures methods on one text: reads it once for all methods that record the same, compresses copies of the cache, and
// compares each with the full cache.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "eval/candidates.h"
#include "eval/rows.h"
#include "eval/tasks.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

struct Bench {
  std::shared_ptr<const model::Model> model;
  const text::Tokenizer& tokenizer;
  engine::SessionOptions options;  // context and needs are set for each text; q8_0 rows are compared with f16 ones
  std::string products;            // how the model was loaded: f32, or quantised as in the file
};

// All that is measured on one text at one context.
struct TextTasks {
  std::string text;  // its name
  TaskSizes sizes;
  Excerpt excerpt;
  Passages passages;
  std::optional<Lines> lines;
};
// Throws Error when the text is too short, UsageError when the context is.
TextTasks make_tasks(const text::Tokenizer& tokenizer, const std::string& name, const std::string& text,
                     const TaskSizes& sizes);

RowKey row_key(const Bench& bench, const TextTasks& tasks, const Candidate& candidate);

struct Listener {
  std::function<void(const std::string&)> doing;  // what is being done, for a line of progress
  std::function<bool()> cancelled;                // as RunHooks::cancelled
  std::function<void(const Row&)> row;            // one is measured
};
// Throws engine::Interrupted when cancelled; rows given before stand.
void measure(const Bench& bench, const TextTasks& tasks, std::span<const Candidate* const> candidates,
             const Listener& listener);

}  // namespace kvmerger::eval
