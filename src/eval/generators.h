// Made-up samples: something hidden in a long text, at lengths and depths. One row of a table makes the text of one
// kind; how much of it fits a length is found here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "eval/haystack.h"
#include "eval/sample.h"
#include "eval/task_file.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

// A task's "options": numbers and names, each with its default. Throws Error naming the task on a value of the wrong
// kind or out of range.
class TaskOptions {
 public:
  explicit TaskOptions(const TaskFile& task) : task_(task) {}

  uint32_t count(const char* key, uint32_t otherwise) const;  // 1 or more
  double real(const char* key, double otherwise) const;
  std::string name(const char* key, const std::string& otherwise) const;
  std::vector<double> reals(const char* key, const std::vector<double>& otherwise) const;  // a number or a list of them

 private:
  Error wrong(const char* key, const char* what) const;

  const TaskFile& task_;
};

// Place of a sample in the grid of a task.
struct Cell {
  uint32_t length = 0;  // tokens of prompt and answer, at most
  double depth = -1;    // share of the text before what is hidden; negative: the task has no depths
  uint32_t sample = 0;

  std::string id() const;
};
// The task's lengths up to `context`, its depths and samples; the samples are the outermost loop. Throws Error when no
// length is within the context.
std::vector<Cell> cells(const TaskFile& task, uint32_t context);

// What a maker has: all its choices follow from this.
struct Recipe {
  const TaskFile& task;
  const Haystack& haystack;
  Cell cell;
  uint32_t seed;  // the user's

  Rng rng() const;       // of this cell
  Rng text_rng() const;  // the same at every length and depth
};
struct Draft {
  std::string context, input;  // of the template
  std::vector<std::string> answers;
  Json::Object extra;
};
// What is hidden does not depend on the units: how much text is around it.
struct Maker {
  const char* name;
  Draft (*make)(const Recipe& recipe, uint32_t units);
};

// Makers of each file: needle, passkey (needle.cc); niah, vt (niah.cc); cwe, fwe (word_counts.cc).
Draft make_needle(const Recipe& recipe, uint32_t units);
Draft make_passkey(const Recipe& recipe, uint32_t units);
Draft make_niah(const Recipe& recipe, uint32_t units);
Draft make_variables(const Recipe& recipe, uint32_t units);
Draft make_common_words(const Recipe& recipe, uint32_t units);
Draft make_frequent_words(const Recipe& recipe, uint32_t units);

inline constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

// A place in a text, and what follows it, to be predicted: together as long as the cell says. Throws Error when the
// text is too short.
Sample make_continuation(const TaskFile& task, const Haystack& haystack, const Cell& cell, uint32_t seed,
                         const text::Tokenizer& tokenizer);
inline constexpr const char* kPerplexity = "generate:perplexity";  // the format that asks for these

// Whether a format is `generate:` and something.
bool is_generated(const TaskFile& task);

// The sample of a cell with as much text as fits; size: tokens of its prompt. Throws Error naming the task when nothing
// fits, or when its format is not known.
Sample generate_sample(const TaskFile& task, const Haystack& haystack, const Cell& cell, uint32_t seed,
                       const std::function<size_t(const Sample&)>& size);

}  // namespace kvmerger::eval
