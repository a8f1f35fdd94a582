// The samples of one task, from files or made up.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "eval/sample.h"
#include "eval/task_file.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

struct SampleSet {
  std::vector<std::string> ids;
  std::function<Sample(uint32_t index)> at;

  uint32_t size() const { return static_cast<uint32_t>(ids.size()); }
};

struct SampleInputs {
  std::string data;      // folder of the benchmarks' files
  std::string haystack;  // text to hide needles in; empty: texts/*.txt of the data folder, or the built-in one
  const text::Tokenizer& tokenizer;
  uint32_t context = 0;  // most tokens of prompt and answer
  uint32_t limit = 0;    // the first so many samples; 0: all
  uint32_t seed = 0;     // of what is made up
};

// The set may be used as long as task and tokenizer. Throws Error when there are no data, naming the files looked for,
// or they are not in the task's format.
SampleSet open_samples(const TaskFile& task, const SampleInputs& inputs);

}  // namespace kvmerger::eval
