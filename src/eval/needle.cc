// Needles in a haystack (Kamradt 2023) and the passkey (Mohtashami and Jaggi 2023), at a depth of the text.
#include <iterator>

#include "core/error.h"
#include "eval/generators.h"

namespace kvmerger::eval {
namespace {

constexpr const char* kSandwich = "eat a sandwich and sit in Dolores Park on a sunny day";
constexpr const char* kIngredients[] = {"Figs", "Prosciutto", "Goat cheese", "Walnuts", "Honey", "Rosemary"};

void one_needle(Draft& draft, std::vector<Hidden>& hidden, double depth) {
  hidden.push_back({cat("The best thing to do in San Francisco is ", kSandwich, ". "), depth});
  draft.input = "What is the best thing to do in San Francisco?";
  draft.answers = {kSandwich};
}

// From the depth on, at equal distances to the end.
void many_needles(Draft& draft, std::vector<Hidden>& hidden, double depth, uint32_t count, uint32_t sample) {
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = kIngredients[(sample + index) % std::size(kIngredients)];
    hidden.push_back({cat(name, " is one of the secret ingredients needed to build the perfect pizza. "),
                      depth + (1 - depth) * index / count});
    draft.answers.push_back(name);
  }
  draft.input = "What are the secret ingredients needed to build the perfect pizza?";
}

}  // namespace

Draft make_needle(const Recipe& recipe, uint32_t units) {
  const TaskOptions options(recipe.task);
  const uint32_t count = options.count("needles", 1);
  if (count > std::size(kIngredients)) {
    throw Error(
        cat("the task ", recipe.task.name, " asks for ", count, " needles, there are ", std::size(kIngredients)));
  }
  const double depth = recipe.cell.depth < 0 ? 0.5 : recipe.cell.depth;
  Draft draft;
  std::vector<Hidden> hidden;
  if (count == 1) {
    one_needle(draft, hidden, depth);
  } else {
    many_needles(draft, hidden, depth, count, recipe.cell.sample);
  }
  // The text is the same at every length and depth, so that these alone make a difference.
  Rng rng = recipe.text_rng();
  draft.context = hide(recipe.haystack.sentences(recipe.cell.sample, rng.uniform(), units), hidden);
  draft.extra.emplace_back("needles", count);
  return draft;
}

Draft make_passkey(const Recipe& recipe, uint32_t units) {
  const std::string key = std::to_string(10000 + recipe.rng().below(90000)), noise = cat(kNoise, "\n");
  const std::vector<std::string_view> lines(units, noise);
  Draft draft;
  draft.context = hide(lines, {{cat("The pass key is ", key, ". Remember it. ", key, " is the pass key.\n"),
                                recipe.cell.depth < 0 ? 0.5 : recipe.cell.depth}});
  draft.answers = {key};
  return draft;
}

}  // namespace kvmerger::eval
