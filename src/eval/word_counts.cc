// RULER's common and frequent words (Hsieh et al. 2024): which words of a long list stand there most often.
#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "eval/generators.h"
#include "eval/words.h"

namespace kvmerger::eval {
namespace {

constexpr uint32_t kCodedWords = 2000, kCodedLetters = 6;  // of frequent words
constexpr uint32_t kAsked = 3;

// Riemann's zeta: a sum, and an integral (Euler and Maclaurin) for what is behind it.
double zeta(double alpha) {
  constexpr double kTerms = 1000;
  double sum = 0;
  for (double k = 1; k < kTerms; ++k) sum += std::pow(k, -alpha);
  return sum + std::pow(kTerms, 1 - alpha) / (alpha - 1) + std::pow(kTerms, -alpha) / 2;
}

std::vector<std::string> coded_words(Rng& rng) {
  std::set<std::string> known;
  std::vector<std::string> words;
  while (words.size() < kCodedWords) {
    std::string word = letters(rng, 'a', kCodedLetters);
    if (known.insert(word).second) words.push_back(std::move(word));
  }
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += cat(text.empty() ? "" : " ", word);
  return text;
}

}  // namespace

// units: words that are not common.
Draft make_common_words(const Recipe& recipe, uint32_t units) {
  const TaskOptions options(recipe.task);
  const uint32_t common = options.count("common", 10), often = options.count("common_repeats", 30);
  const uint32_t seldom = options.count("other_repeats", 3);
  if (common >= kWordPairs || seldom >= often) {
    throw Error(cat("the task ", recipe.task.name, ": 'common' must be below ", kWordPairs,
                    " and 'other_repeats' below 'common_repeats'"));
  }
  Rng rng = recipe.rng();
  const std::vector<std::string> words = word_pairs(rng, kWordPairs);
  Draft draft;
  draft.answers.assign(words.begin(), words.begin() + common);
  std::vector<std::string> all;
  for (uint32_t index = 0; index < std::min(common + units, kWordPairs); ++index) {
    all.insert(all.end(), index < common ? often : seldom, words[index]);
  }
  shuffle(all, rng);
  for (size_t index = 0; index < all.size(); ++index) {
    draft.context += cat(index == 0 ? "" : " ", index + 1, ". ", all[index]);
  }
  return draft;
}

// units: words in all, distributed by rank k as k^-alpha; the word of the first rank is dots, which are to be ignored.
Draft make_frequent_words(const Recipe& recipe, uint32_t units) {
  const double alpha = TaskOptions(recipe.task).real("alpha", 2.0);
  if (!(alpha > 1)) throw Error(cat("the task ", recipe.task.name, ": its option 'alpha' must be above 1"));
  Rng rng = recipe.rng();
  std::vector<std::string> words = coded_words(rng), all;
  words[0] = "....";
  Draft draft;
  draft.answers.assign(words.begin() + 1, words.begin() + 1 + kAsked);
  const double share = units / zeta(alpha);
  for (size_t rank = 1; rank <= words.size(); ++rank) {
    const double count = share * std::pow(static_cast<double>(rank), -alpha);
    if (count < 1) break;
    all.insert(all.end(), static_cast<size_t>(count), words[rank - 1]);
  }
  shuffle(all, rng);
  draft.context = joined(all);
  return draft;
}

}  // namespace kvmerger::eval
