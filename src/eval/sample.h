// One sample of a task, as text.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace kvmerger::eval {

struct Sample {
  std::string id;                      // one of its own in the task
  std::string before, context, after;  // the prompt; compaction sees before and context, unless it may see all
  std::string after_cut;               // stands for `after` when the context's end was cut
  std::vector<std::string> answers, classes;
  std::string continuation;  // scored behind the prompt in place of an answer, when there is one
  Json::Object extra;        // for scores and figures: depth, length, ...
};

}  // namespace kvmerger::eval
