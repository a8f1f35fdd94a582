#include "engine/prompt.h"

#include <algorithm>

#include "core/error.h"

namespace kvmerger::engine {
namespace {

using text::Token;

// Stands for document and question while the template is rendered, so that their text is tokenized apart.
constexpr const char* kPlace = "@@kvmerger-user-text@@";
constexpr const char* kBetween = "\n\n";

void append(std::vector<Token>& tokens, const std::vector<Token>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

// The template's text before and after the user's text.
struct Frame {
  std::string before, after;
};

Frame frame(const text::Tokenizer& tokenizer, const std::string& system, bool chat) {
  if (!chat || !tokenizer.has_chat_template()) return {system.empty() ? "" : system + kBetween, ""};
  std::vector<text::Message> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", kPlace});
  const std::string rendered = tokenizer.render(messages, true);
  const size_t place = rendered.find(kPlace);
  if (place == std::string::npos) throw Error("the model's chat template drops the user's message; use --raw");
  return {rendered.substr(0, place), rendered.substr(place + std::string(kPlace).size())};
}

// Adds BOS as the model wants it, unless the template has written it already.
std::vector<Token> encode_begin(const text::Tokenizer& tokenizer, const std::string& before) {
  std::vector<Token> tokens = tokenizer.encode(before, true, true);
  if (tokens.size() > 1 && tokens[0] == tokenizer.bos() && tokens[1] == tokenizer.bos()) tokens.erase(tokens.begin());
  return tokens;
}

void cut(std::vector<Token>& document, uint32_t keep, Truncate truncate, Prompt& prompt) {
  const uint32_t total = static_cast<uint32_t>(document.size()), out = total - keep;
  const uint32_t first = truncate == Truncate::kLeft ? 0 : (keep + 1) / 2;
  document.erase(document.begin() + first, document.begin() + first + out);
  prompt.cut_tokens = out;
  prompt.cut = cat("document tokens ", first, " to ", first + out - 1, " of ", total, " were left out");
}

}  // namespace

Prompt build_prompt(const text::Tokenizer& tokenizer, const PromptParts& parts, uint32_t room, Truncate truncate) {
  const Frame around = frame(tokenizer, parts.system, parts.chat);
  Prompt prompt;
  std::vector<Token> begin = encode_begin(tokenizer, around.before);
  std::vector<Token> document = tokenizer.encode(parts.document, false, false);
  const bool both = !parts.document.empty() && !parts.question.empty();
  prompt.question = tokenizer.encode((both ? kBetween : "") + parts.question, false, false);
  append(prompt.question, tokenizer.encode(around.after, false, true));
  const size_t fixed = begin.size() + prompt.question.size(), total = fixed + document.size();
  if (total > room) {
    if (truncate == Truncate::kRefuse || fixed >= room) {
      throw Error(cat("the prompt has ", total, " tokens, ", document.size(),
                      " of them the document, but there is room for ", room,
                      "; shorten it, cut it with --truncate middle|left, or raise the context with -c"));
    }
    cut(document, room - static_cast<uint32_t>(fixed), truncate, prompt);
  }
  prompt.document = std::move(begin);
  append(prompt.document, document);
  if (parts.document.empty()) {  // nothing apart from the question
    prompt.document.insert(prompt.document.end(), prompt.question.begin(), prompt.question.end());
    prompt.question = std::move(prompt.document);
    prompt.document.clear();
  }
  return prompt;
}

PromptFrame prompt_frame(const text::Tokenizer& tokenizer, bool chat) {
  const Frame around = frame(tokenizer, "", chat);
  return {encode_begin(tokenizer, around.before), tokenizer.encode(around.after, false, true)};
}

std::vector<Token> build_question(const text::Tokenizer& tokenizer, const std::string& question, bool chat) {
  std::vector<Token> tokens = tokenizer.encode(kBetween + question, false, false);
  append(tokens, tokenizer.encode(frame(tokenizer, "", chat).after, false, true));
  return tokens;
}

std::vector<Token> build_next_turn(const text::Tokenizer& tokenizer, const std::string& system,
                                   const std::string& text) {
  const std::string reply = "@@kvmerger-reply@@";
  std::vector<text::Message> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.insert(messages.end(), {{"user", "..."}, {"assistant", reply}, {"user", kPlace}});
  const std::string rendered = tokenizer.render(messages, true);
  const size_t begin = rendered.find(reply), end = rendered.find(kPlace);
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    throw Error("the model's chat template drops or reorders the turns of a conversation; use kvmerger run");
  }
  const std::string between = rendered.substr(begin + reply.size(), end - begin - reply.size());
  std::vector<Token> tokens = tokenizer.encode(between, false, true);
  append(tokens, tokenizer.encode(text, false, false));
  append(tokens, tokenizer.encode(rendered.substr(end + std::string(kPlace).size()), false, true));
  return tokens;
}

std::vector<int32_t> repeat_prompt(const text::Tokenizer& tokenizer) {
  return tokenizer.encode("\n\nRepeat the previous context:\n\n", false, false);
}

}  // namespace kvmerger::engine
