// Perplexity over long documents: what stands before a place in a text, and what follows it, to be predicted.
#include <algorithm>

#include "core/error.h"
#include "engine/prompt.h"
#include "eval/generators.h"
#include "text/stream.h"

namespace kvmerger::eval {
namespace {

using Tokens = std::vector<text::Token>;

constexpr size_t kBytesPerToken = 8;  // more than texts have

// The end of a sentence at random in the text's second half, with room for `scored` tokens behind it.
size_t random_border(const std::string& text, Rng rng, uint32_t scored) {
  const size_t half = text.size() / 2, room = std::min(half, scored * kBytesPerToken);
  const auto place = half + static_cast<size_t>(rng.uniform() * static_cast<double>(half - room));
  const size_t end = text.find(". ", place);
  if (end != std::string::npos) return end + 1;
  size_t border = place;
  while (border < text.size() && !text::begins_character(text[border])) ++border;
  return border;
}

Error too_short(const TaskFile& task, uint32_t needed) {
  return Error(cat("the task ", task.name, " needs ", needed,
                   " tokens of text, and the text is too short; give a longer ",
                   "one with --haystack, or texts/*.txt in the folder of --data"));
}

}  // namespace

Sample make_continuation(const TaskFile& task, const Haystack& haystack, const Cell& cell, uint32_t seed,
                         const text::Tokenizer& tokenizer) {
  const uint32_t scored = TaskOptions(task).count("tokens", 256);
  const engine::PromptFrame frame = engine::prompt_frame(tokenizer, task.chat);
  const size_t around = frame.begin.size() + frame.end.size();
  if (scored + around >= cell.length) {
    throw Error(cat("the task ", task.name, " scores ", scored, " tokens and has ", around,
                    " around them, its length of ", cell.length, " is too small"));
  }
  const auto read = static_cast<uint32_t>(cell.length - scored - around);
  const std::string& text = haystack.text(cell.sample);
  // The same at every length: what is scored does not change, only how much is read before.
  const size_t border = random_border(text, Recipe{task, haystack, cell, seed}.text_rng(), scored);
  size_t begin = border - std::min(border, read * kBytesPerToken);
  while (begin < border && !text::begins_character(text[begin])) ++begin;
  const Tokens before = tokenizer.encode(std::string_view(text).substr(begin, border - begin), false, false);
  const Tokens behind = tokenizer.encode(std::string_view(text).substr(border, scored * kBytesPerToken), false, false);
  if (before.size() < read || behind.size() < scored) throw too_short(task, cell.length);
  Sample sample;
  sample.id = cell.id();
  sample.before = task.before;
  sample.context = tokenizer.decode({before.end() - read, before.end()}, false);
  sample.after = task.after;
  sample.continuation = tokenizer.decode({behind.begin(), behind.begin() + scored}, false);
  sample.extra.emplace_back("length", cell.length);
  return sample;
}

}  // namespace kvmerger::eval
