// Tasks of benchmarks: one JSON file each below evaluation/tasks, which says where samples come from, how a prompt is
// made of one, and how answers are scored.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace kvmerger::eval {

enum class Cut { kMiddle, kContextEnd, kNone };  // what is left out of a prompt that is too long

struct TaskFile {
  std::string name;                // suite/task, or the suite alone when it has one task
  std::string format;              // of the source: a row in sources.cc, or generate:<a row in generators.cc>
  std::vector<std::string> files;  // of the source, below the data folder; the first that is there is read
  std::string before, after;       // the template's text on both sides of {context}
  uint32_t max_tokens = 0;         // of an answer
  std::string metric;
  Cut cut = Cut::kMiddle;
  std::string cut_note;  // stands behind a context whose end was cut
  bool chat = true;      // the model's chat template is put around the prompt
  std::vector<std::string> stops;
  Json options;  // of the source
};

// Throws Error naming the file and what is wrong with it.
TaskFile read_task_file(const std::string& path);

// The tasks that `names` asks for: names of tasks, or of suites for all tasks of one; each once, in the order given.
// folder: evaluation/tasks. Throws UsageError listing the known ones on a name that is none.
std::vector<TaskFile> find_tasks(const std::string& folder, const std::vector<std::string>& names);

// Replaces each {name} that is a field by its value; any other brace stays. Values are not looked into.
using Fields = std::map<std::string, std::string, std::less<>>;
std::string fill_template(std::string_view text, const Fields& fields);

}  // namespace kvmerger::eval
