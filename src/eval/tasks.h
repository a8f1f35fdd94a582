// What is measured on: an excerpt of a text with its continuation, passages of it to be said again, and a record of
// lines to be looked up. Everything follows from text, sizes and seed: all methods get the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/rng.h"
#include "engine/session.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

using engine::Token;

struct TaskSizes {
  uint32_t context = 0;         // tokens that are compressed
  uint32_t continuation = 128;  // tokens behind them
  uint32_t passages = 5;
  uint32_t questions = 24;  // about lines; 0: no lines
  uint64_t seed = 0;

  bool operator==(const TaskSizes&) const = default;
};

// A generator of its own for every text, size and purpose.
Rng task_rng(const std::string& purpose, const std::string& name, const TaskSizes& sizes);

// Where the excerpt begins: the byte at which the second third of the text's characters does.
size_t excerpt_start(const std::string& text);

struct Excerpt {
  std::vector<Token> context, continuation;
};
// name: of the text, for the message. Throws Error when the text has too few tokens behind its first third.
Excerpt make_excerpt(const text::Tokenizer& tokenizer, const std::string& name, const std::string& text,
                     const TaskSizes& sizes);

// Passages of the context, each behind a blank line: what is read behind the context. All are equally long.
struct Passages {
  std::vector<std::vector<Token>> tokens;
  uint32_t cue = 0;  // the first so many of each only remind the model; the others are scored
};
inline constexpr uint32_t kPassageTokens = 72, kCueTokens = 8;
// Throws UsageError when the context is shorter than a passage.
Passages make_passages(const text::Tokenizer& tokenizer, const std::string& name, const std::vector<Token>& context,
                       const TaskSizes& sizes);

struct Question {
  std::vector<Token> ask, answer;
};
struct Lines {
  std::vector<Token> record;        // at most TaskSizes::context tokens
  std::vector<Token> common;        // with which every question begins; not in Question::ask
  std::vector<Question> questions;  // shortest first
  uint32_t count = 0;               // lines of the record
};
// Throws UsageError when the record has fewer lines than there are questions.
Lines make_lines(const text::Tokenizer& tokenizer, const std::string& name, const TaskSizes& sizes);

}  // namespace kvmerger::eval
