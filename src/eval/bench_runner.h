// Answers samples with methods at budgets: reads a prompt once for all methods that record the same, compresses copies
// of the cache, and generates from each. Memory: the full cache and a copy of it, which shrinks when it is compressed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "engine/prompt.h"
#include "engine/session.h"
#include "eval/candidates.h"
#include "eval/predictions.h"
#include "eval/sample.h"
#include "eval/task_file.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

struct BenchModel {
  std::shared_ptr<const model::Model> model;
  const text::Tokenizer& tokenizer;
  engine::SessionOptions options;  // context: most tokens of prompt and answer; needs are set for each sample
  bool question_aware = false;     // compaction sees the whole prompt

  const char* mode() const { return question_aware ? kQuestionAware : kQuestionAgnostic; }
};

struct BenchSample {
  const TaskFile& task;
  const Sample& sample;
  uint32_t index;  // in its task
};

struct BenchListener {
  std::function<void(const std::string&)> doing;  // what is being done, for a line of progress
  std::function<bool()> cancelled;                // as RunHooks::cancelled
  std::function<void(const Prediction&)> done;    // one is made
  std::function<void(const Json&)> trace;         // of a task's first sample, when given (trace.h)
};

// The sample's prompt as tokens, and that it fits. Throws Error as eval::build_prompt does.
engine::Prompt checked_prompt(const BenchModel& model, const BenchSample& sample);

// Throws engine::Interrupted when cancelled; predictions given before stand.
void predict(const BenchModel& model, const BenchSample& sample, std::span<const Candidate* const> candidates,
             const BenchListener& listener);

}  // namespace kvmerger::eval
