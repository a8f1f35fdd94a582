#include "eval/bench_prompt.h"

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

using Tokens = std::vector<text::Token>;

void append(Tokens& tokens, const Tokens& more) { tokens.insert(tokens.end(), more.begin(), more.end()); }

Tokens middle_cut(const Tokens& tokens, size_t first, size_t last) {
  Tokens kept(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(first));
  kept.insert(kept.end(), tokens.end() - static_cast<std::ptrdiff_t>(last), tokens.end());
  return kept;
}

// Leaves the first and the last room / 2 tokens of both together.
void cut_middle(Tokens& document, Tokens& question, size_t room) {
  const size_t half = room / 2;
  const size_t first = std::min(half, document.size()), last = std::min(half, question.size());
  document = middle_cut(document, first, half - last);
  question = middle_cut(question, half - first, last);
}

}  // namespace

uint32_t prompt_room(const TaskFile& task, uint32_t context) {
  if (context > task.max_tokens) return context - task.max_tokens;
  throw Error(cat("the task ", task.name, " has answers of ", task.max_tokens, " tokens, and the context holds ",
                  context, "; give a larger -c"));
}

size_t prompt_size(const text::Tokenizer& tokenizer, const TaskFile& task, const Sample& sample) {
  const engine::PromptFrame frame = engine::prompt_frame(tokenizer, task.chat);
  return frame.begin.size() + tokenizer.encode(sample.before + sample.context, false, false).size() +
         tokenizer.encode(sample.after, false, false).size() + frame.end.size();
}

engine::Prompt build_prompt(const text::Tokenizer& tokenizer, const TaskFile& task, const Sample& sample,
                            uint32_t room) {
  const engine::PromptFrame frame = engine::prompt_frame(tokenizer, task.chat);
  Tokens document = tokenizer.encode(sample.before + sample.context, false, false);
  Tokens question = tokenizer.encode(sample.after, false, false);
  const size_t around = frame.begin.size() + frame.end.size(), total = around + document.size() + question.size();
  engine::Prompt prompt;
  if (total > room) {
    const bool end = task.cut == Cut::kContextEnd;
    if (end) question = tokenizer.encode(sample.after_cut, false, false);
    const size_t fixed = around + (end ? question.size() : 2);
    if (task.cut == Cut::kNone || fixed >= room) {
      throw Error(cat("task ", task.name, ", sample ", sample.id, ": the prompt has ", total,
                      " tokens and there is room for ", room,
                      task.cut == Cut::kNone ? "; the task does not allow to cut it" : " even when cut",
                      ". Give a larger -c or leave the task out"));
    }
    if (end) {
      document.resize(std::min(document.size(), room - fixed));
    } else {
      cut_middle(document, question, room - around);
    }
    prompt.cut_tokens = static_cast<uint32_t>(total - around - document.size() - question.size());
  }
  prompt.document = frame.begin;
  append(prompt.document, document);
  prompt.question = std::move(question);
  append(prompt.question, frame.end);
  return prompt;
}

}  // namespace kvmerger::eval
