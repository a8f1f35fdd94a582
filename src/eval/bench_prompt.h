// From a sample to tokens: chat template, what compaction sees, and the benchmarks' ways of cutting.
#pragma once

#include <cstdint>
#include <string>

#include "engine/prompt.h"
#include "eval/sample.h"
#include "eval/task_file.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

// Room for the prompt in a context: the rest is for the answer. Throws Error naming the task when there is none.
uint32_t prompt_room(const TaskFile& task, uint32_t context);

// Tokens of the whole prompt, nothing cut.
size_t prompt_size(const text::Tokenizer& tokenizer, const TaskFile& task, const Sample& sample);

// room: most tokens of the prompt, chat template included. Prompt::document is the template's text and the context,
// Prompt::question what follows. As the benchmarks do, `middle` keeps the first and the last half of what the user says
// (context or not), `context_end` cuts what is before the question. Texts of context and question are tokenized apart.
// Throws Error naming task and sample when the prompt does not fit and may not be cut, or cannot be.
engine::Prompt build_prompt(const text::Tokenizer& tokenizer, const TaskFile& task, const Sample& sample,
                            uint32_t room);

}  // namespace kvmerger::eval
