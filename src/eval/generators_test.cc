#include "eval/generators.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "eval/json_lines.h"
#include "eval/test_folder.h"
#include "eval/words.h"

namespace kvmerger::eval {
namespace {

using Texts = std::vector<std::string>;

TaskFile task_of(const std::string& what, const std::string& options = "{}") {
  TaskFile task;
  task.name = "made/" + what;
  task.format = "generate:" + what;
  task.before = "Read:\n";
  task.after = "\nAsked: {input}";
  task.max_tokens = 10;
  task.cut = Cut::kNone;
  task.options = parse_json(options);
  return task;
}

Haystack novel() {
  std::string text;
  for (int number = 0; number < 500; ++number) text += cat("This is sentence ", number, " of many. ");
  return Haystack(std::vector<std::string>{text, "Another text. Of two sentences. "});
}

Texts words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

// A token is a word here.
size_t prompt_words(const Sample& sample) { return words_of(sample.before + sample.context + sample.after).size(); }

Sample make(const TaskFile& task, const Cell& cell, uint32_t seed = 0) {
  return generate_sample(task, novel(), cell, seed, &prompt_words);
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

// Everything made up fills its length but for one unit, repeats itself, and changes with seed and sample.
void check_laws(const TaskFile& task, const Cell& cell, size_t unit_words) {
  const Sample sample = make(task, cell);
  const size_t words = prompt_words(sample) + task.max_tokens;
  CHECK(words <= cell.length);
  CHECK(words + unit_words > cell.length);
  CHECK(make(task, cell).context == sample.context);
  CHECK(make(task, {cell.length, cell.depth, cell.sample + 1}).context != sample.context);
  CHECK(make(task, cell, 1).context != sample.context);
  CHECK(sample.id == cell.id());
  CHECK_FALSE(sample.answers.empty());
  CHECK(parse_json(dump_json(sample.extra)).at("length").integer() == cell.length);
}

}  // namespace

TEST_CASE("a grid has the lengths that fit, and samples outermost") {
  const TaskFile task = task_of("needle", R"({"lengths": [100, 200, 400], "depths": [0, 0.5], "samples": 2})");
  Texts ids;
  for (const Cell& cell : cells(task, 200)) ids.push_back(cell.id());
  CHECK(ids == Texts{"100-0-0", "100-0.5-0", "200-0-0", "200-0.5-0", "100-0-1", "100-0.5-1", "200-0-1", "200-0.5-1"});
  CHECK(error_of([&] { cells(task, 99); }).find("no length of the task made/needle fits") == 0);
  CHECK(cells(task_of("vt", R"({"lengths": 64})"), 64).at(0).id() == "64-0");
  CHECK_THROWS_AS(cells(task_of("needle", R"({"depths": [2]})"), 9000), Error);
  CHECK_THROWS_AS(cells(task_of("needle", R"({"samples": "two"})"), 9000), Error);
  CHECK_THROWS_AS(cells(task_of("needle", R"({"lengths": []})"), 9000), Error);
}

TEST_CASE("a needle lies at its depth, in the same text for all depths") {
  const std::string needle =
      "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day. ";
  std::set<std::string> rest;
  for (const double depth : {0.0, 0.25, 0.5, 1.0}) {
    const Sample sample = make(task_of("needle"), {400, depth, 0});
    const size_t at = sample.context.find(needle);
    REQUIRE(at != std::string::npos);
    const double share = static_cast<double>(at) / static_cast<double>(sample.context.size() - needle.size());
    CHECK(std::abs(share - depth) < 0.02);
    CHECK(sample.answers == Texts{"eat a sandwich and sit in Dolores Park on a sunny day"});
    CHECK(sample.after.ends_with("What is the best thing to do in San Francisco?"));
    CHECK(parse_json(dump_json(sample.extra)).at("depth").number() == depth);
    rest.insert(std::string(sample.context).erase(at, needle.size()));
  }
  CHECK(rest.size() == 1);
  const std::string shorter = make(task_of("needle"), {200, 1.0, 0}).context;  // of the same text, its beginning
  CHECK(rest.begin()->starts_with(shorter.substr(0, shorter.find(needle))));
  check_laws(task_of("needle"), {300, 0.5, 0}, 6);
}

TEST_CASE("several needles are spread from the depth to the end") {
  const Sample sample = make(task_of("needle", R"({"needles": 3})"), {700, 0.25, 0});
  CHECK(sample.answers == Texts{"Figs", "Prosciutto", "Goat cheese"});
  for (uint32_t index = 0; index < 3; ++index) {
    const size_t at = sample.context.find(sample.answers[index] + " is one of the secret ingredients");
    REQUIRE(at != std::string::npos);
    const double share = static_cast<double>(at) / static_cast<double>(sample.context.size());
    CHECK(std::abs(share - (0.25 + 0.25 * index)) < 0.05);
  }
  CHECK_THROWS_AS(make(task_of("needle", R"({"needles": 7})"), {700, 0.25, 0}), Error);
}

TEST_CASE("a passkey is said once, in noise") {
  const Sample sample = make(task_of("passkey"), {400, 0.5, 0});
  REQUIRE(sample.answers.size() == 1);
  CHECK(sample.answers[0].size() == 5);
  const std::string said =
      cat("The pass key is ", sample.answers[0], ". Remember it. ", sample.answers[0], " is the pass key.\n");
  CHECK(count_of(sample.context, said) == 1);
  CHECK(words_of(sample.context).size() == words_of(said).size() + 19 * count_of(sample.context, kNoise));
  check_laws(task_of("passkey"), {300, 0.5, 0}, 19);
}

TEST_CASE("keys and values are hidden as asked, and those asked for are the answers") {
  struct Case {
    const char* options;
    size_t lines, answers;
  };
  for (const Case& one : {Case{R"({"num_keys": 4})", 4, 1}, Case{R"({"num_values": 4})", 4, 4},
                          Case{R"({"num_queries": 4})", 4, 4}, Case{R"({"haystack": "noise"})", 1, 1},
                          Case{R"({"haystack": "noise", "keys": "uuids", "values": "uuids"})", 1, 1}}) {
    CAPTURE(one.options);
    const Sample sample = make(task_of("niah", one.options), {400, -1, 0});
    CHECK(count_of(sample.context, "One of the special magic ") == one.lines);
    REQUIRE(sample.answers.size() == one.answers);
    for (const std::string& answer : sample.answers) CHECK(count_of(sample.context, " is: " + answer + ".") == 1);
    check_laws(task_of("niah", one.options), {400, -1, 0}, 21);
  }
  CHECK_THROWS_AS(make(task_of("niah", R"({"haystack": "straw"})"), {400, -1, 0}), Error);
  CHECK_THROWS_AS(make(task_of("niah", R"({"values": "colours"})"), {400, -1, 0}), Error);
}

TEST_CASE("among needles the key that is asked for has one value") {
  const Sample sample = make(task_of("niah", R"({"haystack": "needle"})"), {3000, -1, 0});
  const std::string key = sample.after.substr(sample.after.rfind(' ') + 1);
  CHECK(count_of(sample.context, cat(" for ", key, " is: ")) == 1);
  CHECK(count_of(sample.context, cat(" for ", key, " is: ", sample.answers.at(0), ".")) == 1);
  CHECK(count_of(sample.context, "\n") > 200);
}

TEST_CASE("several keys are listed as in a sentence") {
  const Sample sample = make(task_of("niah", R"({"num_queries": 3})"), {400, -1, 0});
  const std::string asked = sample.after.substr(sample.after.find(": ") + 2);
  CHECK(count_of(asked, ", ") == 2);
  CHECK(count_of(asked, ", and ") == 1);
}

TEST_CASE("a chain of variables leads from the value to every answer") {
  const Sample sample = make(task_of("vt", R"({"chains": 2, "hops": 3})"), {600, -1, 0});
  const std::string value = sample.after.substr(sample.after.rfind(' ') + 1);
  REQUIRE(sample.answers.size() == 4);
  // Followed line by line, as a reader would.
  std::map<std::string, std::string> known;
  std::istringstream lines(sample.context);
  Texts found;
  size_t assignments = 0;
  for (std::string line; std::getline(lines, line);) {
    const Texts words = words_of(line);
    if (words.empty() || words[0] != "VAR") continue;
    ++assignments;
    REQUIRE(words.size() == (words[3] == "VAR" ? 5U : 4U));
    if (words.size() == 5) REQUIRE(known.contains(words[4]));
    known[words[1]] = words.size() == 5 ? known[words[4]] : words[3];
    if (known[words[1]] == value) found.push_back(words[1]);
  }
  CHECK(assignments == 8);
  CHECK(found == sample.answers);
  check_laws(task_of("vt"), {600, -1, 0}, 19);
}

TEST_CASE("common words are those that stand there most often") {
  const TaskFile task = task_of("cwe", R"({"common": 3, "common_repeats": 8, "other_repeats": 2})");
  const Sample sample = make(task, {200, -1, 0});
  std::map<std::string, int> counts;
  const Texts words = words_of(sample.context);
  for (size_t at = 0; at < words.size(); at += 2) {
    CHECK(words[at] == cat(at / 2 + 1, "."));
    ++counts[words[at + 1]];
  }
  CHECK(counts.size() > 3);
  for (const auto& [word, count] : counts) CHECK(count == (std::ranges::count(sample.answers, word) > 0 ? 8 : 2));
  CHECK(sample.answers.size() == 3);
  check_laws(task, {200, -1, 0}, 4);
  CHECK_THROWS_AS(make(task_of("cwe", R"({"common_repeats": 3})"), {200, -1, 0}), Error);
}

TEST_CASE("frequent words are distributed by a power of their rank") {
  const Sample sample = make(task_of("fwe"), {2000, -1, 0});
  std::map<std::string, double> counts;
  for (const std::string& word : words_of(sample.context)) ++counts[word];
  Texts order;
  for (const auto& [word, count] : counts) order.push_back(word);
  std::ranges::stable_sort(order, [&](const auto& left, const auto& right) { return counts[left] > counts[right]; });
  CHECK(order[0] == "....");
  CHECK(Texts(order.begin() + 1, order.begin() + 4) == sample.answers);
  for (int rank = 2; rank <= 10; ++rank) {  // k^-2 of the first
    CHECK(std::abs(counts[order[static_cast<size_t>(rank - 1)]] - counts["...."] / (rank * rank)) < 1.01);
  }
  // The first has 1 / zeta(2) = 6 / pi^2 of as many words as were asked for; what has less than one is left out.
  CHECK(counts["...."] / 1990 > 0.6);
}

TEST_CASE("a length that holds nothing and a kind that is not known are errors") {
  CHECK(error_of([&] { make(task_of("vt"), {30, -1, 0}); }) ==
        "the task made/vt does not fit its length of 30 tokens; make it longer");
  CHECK(error_of([&] {
          make(task_of("hay"), {30, -1, 0});
        }).find("known are needle, passkey, niah, vt, cwe, fwe, perplexity") != std::string::npos);
}

TEST_CASE("identifiers look as they should") {
  Rng rng(3);
  for (int round = 0; round < 20; ++round) {
    const std::string text = uuid(rng), digits = seven_digits(rng);
    CHECK(text.size() == 36);
    CHECK(text[14] == '4');
    CHECK(std::string("89ab").find(text[19]) != std::string::npos);
    CHECK(std::ranges::count(text, '-') == 4);
    CHECK(digits.size() == 7);
  }
  const Texts pairs = word_pairs(rng, kWordPairs);
  CHECK(std::set<std::string>(pairs.begin(), pairs.end()).size() == kWordPairs);
}

}  // namespace kvmerger::eval
