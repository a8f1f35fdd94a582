// RULER's retrieval of keys and values, and its chains of variables (Hsieh et al. 2024).
#include <algorithm>
#include <utility>

#include "core/error.h"
#include "eval/generators.h"
#include "eval/words.h"

namespace kvmerger::eval {
namespace {

constexpr uint32_t kDepths = 40;  // places a needle may have in an essay, from the first to the last

struct KeyValues {
  std::string key;
  std::vector<std::string> values;
};

// Keys and values of one task.
class Needles {
 public:
  explicit Needles(const TaskFile& task)
      : task_(task),
        keys_(TaskOptions(task).name("keys", "words")),
        values_(TaskOptions(task).name("values", "numbers")) {}

  std::string line(const std::string& key, const std::string& value) const {
    return cat("One of the special magic ", values_, " for ", key, " is: ", value, ".");
  }
  std::vector<std::string> keys(Rng& rng, uint32_t count) const {
    if (keys_ == "words" && count <= kWordPairs) return word_pairs(rng, count);
    if (keys_ != "uuids" && keys_ != "words") throw unknown("keys", keys_, "words, uuids");
    std::vector<std::string> keys;
    while (keys.size() < count) keys.push_back(keys_ == "words" ? one_of_words(rng) : uuid(rng));
    return keys;
  }
  std::string value(Rng& rng) const {
    if (values_ == "numbers") return seven_digits(rng);
    if (values_ == "uuids") return uuid(rng);
    throw unknown("values", values_, "numbers, uuids");
  }
  Error unknown(const char* option, const std::string& given, const char* known) const {
    return Error(cat("the task ", task_.name, ": its option '", option, "' is '", given, "'; known: ", known));
  }

 private:
  static std::string one_of_words(Rng& rng) { return word_pairs(rng, 1).front(); }

  const TaskFile& task_;
  std::string keys_, values_;
};

// "a", "a, and b", "a, b, and c"
std::string listed(const std::vector<std::string>& names) {
  std::string text = names.front();
  for (size_t index = 1; index < names.size(); ++index) {
    text += cat(index + 1 < names.size() ? ", " : ", and ", names[index]);
  }
  return text;
}

// Different depths at random, in a random order.
std::vector<double> random_depths(Rng& rng, size_t count) {
  std::vector<double> depths;
  for (uint32_t place = 0; place < kDepths; ++place) depths.push_back(place / (kDepths - 1.0));
  shuffle(depths, rng);
  if (count > depths.size()) throw Error(cat("a text has places for ", kDepths, " needles, ", count, " are asked for"));
  depths.resize(count);
  return depths;
}

std::string without_last_break(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// The lines of a haystack that is made up. asked: keys that none of them may have.
std::vector<std::string> haystack_lines(const Needles& needles, const std::string& kind, Rng& rng, uint32_t units,
                                        const std::vector<std::string>& asked) {
  std::vector<std::string> own;
  if (kind == "noise") {
    own.assign(units, cat(kNoise, "\n"));
  } else if (kind == "needle") {
    for (const std::string& key : needles.keys(rng, units + static_cast<uint32_t>(asked.size()))) {
      if (own.size() == units || std::ranges::find(asked, key) != asked.end()) continue;
      own.push_back(needles.line(key, needles.value(rng)) + "\n");
    }
  } else {
    throw needles.unknown("haystack", kind, "noise, essay, needle");
  }
  return own;
}

}  // namespace

Draft make_niah(const Recipe& recipe, uint32_t units) {
  const TaskOptions options(recipe.task);
  const Needles needles(recipe.task);
  const std::string kind = options.name("haystack", "essay");
  const uint32_t queries = options.count("num_queries", 1), values = options.count("num_values", 1);
  const uint32_t count = std::max(queries, options.count("num_keys", 1));
  Rng rng = recipe.rng();
  Draft draft;
  std::vector<std::string> keys = needles.keys(rng, count), lines;
  for (uint32_t key = 0; key < count; ++key) {
    for (uint32_t value = 0; value < values; ++value) {
      const std::string text = needles.value(rng);
      lines.push_back(needles.line(keys[key], text) + (kind == "essay" ? " " : "\n"));
      if (key < queries) draft.answers.push_back(text);  // keys are random: the first are as good as any
    }
  }
  const std::vector<double> depths = random_depths(rng, lines.size());
  std::vector<Hidden> hidden;
  for (size_t line = 0; line < lines.size(); ++line) hidden.push_back({lines[line], depths[line]});
  std::vector<std::string> own;  // outlives the pieces
  if (kind != "essay") own = haystack_lines(needles, kind, rng, units, keys);
  const auto pieces = kind == "essay" ? recipe.haystack.sentences(recipe.cell.sample, rng.uniform(), units)
                                      : std::vector<std::string_view>(own.begin(), own.end());
  draft.context = without_last_break(hide(pieces, hidden));
  keys.resize(queries);
  draft.input = listed(keys);
  return draft;
}

Draft make_variables(const Recipe& recipe, uint32_t units) {
  const TaskOptions options(recipe.task);
  const uint32_t chains = options.count("chains", 1), hops = options.count("hops", 4);
  Rng rng = recipe.rng();
  Draft draft;
  std::set<std::string> names;
  std::vector<std::string> lines;
  std::vector<double> depths;
  for (uint32_t chain = 0; chain < chains; ++chain) {
    std::string before = std::to_string(10000 + rng.below(90000));
    if (chain == 0) draft.input = before;
    std::vector<double> places;
    for (uint32_t hop = 0; hop <= hops; ++hop) {
      std::string name;
      while (!names.insert(name = letters(rng, 'A', 5)).second) {
      }
      lines.push_back(cat("VAR ", name, " = ", before, "\n"));
      if (chain == 0) draft.answers.push_back(name);
      before = "VAR " + name;
      places.push_back(rng.uniform());
    }
    std::ranges::sort(places);  // a variable stands behind the one it is set to
    depths.insert(depths.end(), places.begin(), places.end());
  }
  std::vector<Hidden> hidden;
  for (size_t line = 0; line < lines.size(); ++line) hidden.push_back({lines[line], depths[line]});
  const std::string noise = cat(kNoise, "\n");
  draft.context = without_last_break(hide(std::vector<std::string_view>(units, noise), hidden));
  return draft;
}

}  // namespace kvmerger::eval
