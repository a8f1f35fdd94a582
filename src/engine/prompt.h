// From a document and a question to tokens: chat template, the border between what is compressed and what is asked, and
// cutting, which happens only when asked for and is always reported.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace kvmerger::engine {

enum class Truncate { kRefuse, kMiddle, kLeft };

struct PromptParts {
  std::string system;    // empty: none
  std::string document;  // empty: none
  std::string question;
  bool chat = true;  // use the model's chat template when it has one
};

struct Prompt {
  std::vector<text::Token> document;  // everything up to the end of the document: what compaction sees
  std::vector<text::Token> question;  // what follows
  uint32_t cut_tokens = 0;            // document tokens left out
  std::string cut;                    // where, in words; empty when nothing was

  size_t size() const { return document.size() + question.size(); }
};

// Text of the document is never read as special tokens, whatever it contains.
// room: tokens the prompt may have. Throws Error with both counts when it is longer and truncate is kRefuse, or when it
// does not fit without any document.
Prompt build_prompt(const text::Tokenizer& tokenizer, const PromptParts& parts, uint32_t room, Truncate truncate);

// What stands around a user's text: the chat template, as a user's message and the opening of the reply, and BOS where
// the model wants it.
struct PromptFrame {
  std::vector<text::Token> begin, end;
};
PromptFrame prompt_frame(const text::Tokenizer& tokenizer, bool chat);

// A question behind a document that is already in the cache (kvmerger ask): the same tokens as build_prompt's
// `question`.
std::vector<text::Token> build_question(const text::Tokenizer& tokenizer, const std::string& question, bool chat);

// The user's next turn of a conversation, behind the assistant's last reply: what the template writes between them, the
// text, and the opening of the next reply. Throws Error when the model has no usable chat template.
std::vector<text::Token> build_next_turn(const text::Tokenizer& tokenizer, const std::string& system,
                                         const std::string& text);

// SessionOptions::repeat_prompt, worded as KVzip's authors do.
std::vector<int32_t> repeat_prompt(const text::Tokenizer& tokenizer);

}  // namespace kvmerger::engine
