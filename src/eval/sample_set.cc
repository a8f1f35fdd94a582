#include "eval/sample_set.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "eval/bench_prompt.h"
#include "eval/generators.h"
#include "eval/sources.h"

namespace kvmerger::eval {
namespace {

SampleSet from_file(const TaskFile& task, const SampleInputs& inputs) {
  const auto samples =  // shared: std::function wants to be copied
      std::make_shared<const std::vector<Sample>>(read_source(task, find_source(task, inputs.data), inputs.limit));
  SampleSet set;
  for (const Sample& sample : *samples) set.ids.push_back(sample.id);
  set.at = [samples](uint32_t index) { return (*samples)[index]; };
  return set;
}

SampleSet made_up(const TaskFile& task, const SampleInputs& inputs) {
  std::vector<Cell> grid = cells(task, inputs.context);
  if (inputs.limit > 0 && grid.size() > inputs.limit) grid.resize(inputs.limit);
  SampleSet set;
  for (const Cell& cell : grid) set.ids.push_back(cell.id());
  const auto haystack = std::make_shared<const Haystack>(  // shared as above
      read_haystack(inputs.haystack, (std::filesystem::path(inputs.data) / "texts").string()));
  const text::Tokenizer& tokenizer = inputs.tokenizer;
  set.at = [&task, &tokenizer, grid, haystack, seed = inputs.seed](uint32_t index) {
    if (task.format == kPerplexity) return make_continuation(task, *haystack, grid[index], seed, tokenizer);
    const auto size = [&](const Sample& sample) { return prompt_size(tokenizer, task, sample); };
    return generate_sample(task, *haystack, grid[index], seed, size);
  };
  return set;
}

}  // namespace

SampleSet open_samples(const TaskFile& task, const SampleInputs& inputs) {
  return is_generated(task) ? made_up(task, inputs) : from_file(task, inputs);
}

}  // namespace kvmerger::eval
