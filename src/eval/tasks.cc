#include "eval/tasks.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "core/hash.h"
#include "text/stream.h"

namespace kvmerger::eval {
namespace {

constexpr double kPlaces[] = {0.1, 0.3, 0.5, 0.7, 0.88};  // of passages, as shares of the context
constexpr uint32_t kJitter = 20;                          // tokens

// kPlaces for five passages; any other number is spread in the same way.
double place(uint32_t index, uint32_t count) {
  constexpr size_t kLast = std::size(kPlaces) - 1;
  const double at = count < 2 ? 0.5 * kLast : static_cast<double>(index) * kLast / (count - 1);
  const size_t left = std::min(static_cast<size_t>(at), kLast - 1);
  return kPlaces[left] + (at - static_cast<double>(left)) * (kPlaces[left + 1] - kPlaces[left]);
}

}  // namespace

Rng task_rng(const std::string& purpose, const std::string& name, const TaskSizes& sizes) {
  const std::string key = cat(purpose, '\n', name, '\n', sizes.context, '\n', sizes.seed);
  Hasher hasher;
  hasher.add(key.data(), key.size());
  return Rng(hasher.digest64());
}

size_t excerpt_start(const std::string& text) {
  const auto characters = static_cast<size_t>(std::count_if(text.begin(), text.end(), text::begins_character));
  size_t before = characters / 3, at = 0;
  while (at < text.size() && (before > 0 || !text::begins_character(text[at]))) {
    if (text::begins_character(text[at])) --before;
    ++at;
  }
  return at;
}

Excerpt make_excerpt(const text::Tokenizer& tokenizer, const std::string& name, const std::string& text,
                     const TaskSizes& sizes) {
  const size_t needed = size_t{sizes.context} + sizes.continuation, start = excerpt_start(text);
  std::vector<Token> tokens;
  // Mostly far less than the whole text is looked at; the last token of a cut text may be another one than of the
  // whole.
  for (size_t bytes = 8 * needed; tokens.size() <= needed; bytes *= 2) {
    tokens = tokenizer.encode(text.substr(start, bytes), true, false);
    if (start + bytes >= text.size()) break;
  }
  if (tokens.size() < needed) {
    throw Error(cat("the text ", name, " is too short: it has ", tokens.size(), " tokens behind its first third, and ",
                    needed, " are needed (a context of ", sizes.context, " and a continuation of ", sizes.continuation,
                    "). Give a longer text or a smaller -c"));
  }
  const auto end = tokens.begin() + sizes.context;
  return {{tokens.begin(), end}, {end, end + sizes.continuation}};
}

Passages make_passages(const text::Tokenizer& tokenizer, const std::string& name, const std::vector<Token>& context,
                       const TaskSizes& sizes) {
  if (context.size() < kPassageTokens) {
    throw UsageError(cat("-c ", sizes.context, " is too small: passages of ", kPassageTokens, " tokens are asked for"));
  }
  Rng rng = task_rng("passages", name, sizes);
  const std::vector<Token> blank_line = tokenizer.encode("\n\n", false, false);
  Passages passages{{}, static_cast<uint32_t>(blank_line.size()) + kCueTokens};
  for (uint32_t index = 0; index < sizes.passages; ++index) {
    const double share = place(index, sizes.passages);
    const size_t wanted = static_cast<size_t>(share * static_cast<double>(context.size())) + rng.below(kJitter);
    const auto first = context.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, context.size() - kPassageTokens));
    passages.tokens.push_back(blank_line);
    passages.tokens.back().insert(passages.tokens.back().end(), first, first + kPassageTokens);
  }
  return passages;
}

}  // namespace kvmerger::eval
