// kvmerger quality on the toy model: what is measured on, what is written, going on after a stop, refusals.
#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "cli_tools.h"
#include "core/error.h"
#include "core/json.h"
#include "eval/tasks.h"
#include "text/tokenizer.h"

namespace kvmerger::test {
namespace {

using eval::Token;

// A quick measurement: every byte is a token.
std::vector<std::string> quick(const std::string& text, const std::string& output, const std::string& methods,
                               const std::string& budgets = "50%,25%") {
  return {"quality",        "-f", text,         "-c", "400",         "--methods", methods, "--budgets", budgets,
          "--continuation", "24", "--passages", "2",  "--questions", "3",         "-o",    output};
}

std::vector<Json> rows_of(const std::string& path) {
  std::vector<Json> rows;
  const std::string bytes = read_file(path);
  for (size_t at = 0, end; (end = bytes.find('\n', at)) != std::string::npos; at = end + 1) {
    rows.push_back(parse_json(bytes.substr(at, end - at)));
  }
  return rows;
}

// The row of a method at a budget ("" for none).
const Json& row_of(const std::vector<Json>& rows, const std::string& method, const std::string& budget) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const Json& row) {
    const std::string* size = row.at("budget").get<std::string>();
    return row.at("method").text() == method && (size ? *size : "") == budget;
  });
  REQUIRE(found != rows.end());
  return *found;
}

std::string decode(const std::vector<Token>& tokens) { return text::Tokenizer(talking_model()).decode(tokens, false); }

}  // namespace

TEST_CASE("an excerpt begins with the second third of the characters") {
  CHECK(eval::excerpt_start("abcdefghi") == 3);
  CHECK(eval::excerpt_start("abcdefgh") == 2);
  CHECK(eval::excerpt_start("") == 0);
  CHECK(eval::excerpt_start("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80xyz") == 5);  // a umlaut, euro, and then an emoji
  const text::Tokenizer tokenizer(talking_model());
  const std::string text = story(3000);
  const eval::Excerpt excerpt = eval::make_excerpt(tokenizer, "t", text, {.context = 301, .continuation = 50});
  REQUIRE(excerpt.context.size() == 301);
  REQUIRE(excerpt.continuation.size() == 50);
  CHECK(excerpt.context[0] == tokenizer.bos());
  CHECK(decode(excerpt.context) + decode(excerpt.continuation) == text.substr(1000, 350));
  CHECK(eval::make_excerpt(tokenizer, "t", text, {.context = 1981, .continuation = 20}).continuation.size() == 20);
  CHECK_THROWS_AS(eval::make_excerpt(tokenizer, "t", text, {.context = 1982, .continuation = 20}), Error);
}

TEST_CASE("passages are said as in the context, from places spread over it") {
  const text::Tokenizer tokenizer(talking_model());
  const eval::TaskSizes sizes{.context = 1000, .seed = 3};
  const eval::Excerpt excerpt = eval::make_excerpt(tokenizer, "t", story(4000), sizes);
  const eval::Passages passages = eval::make_passages(tokenizer, "t", excerpt.context, sizes);
  REQUIRE(passages.tokens.size() == 5);
  CHECK(passages.cue == 2 + 8);
  constexpr size_t kPlaces[] = {100, 300, 500, 700, 880};
  for (size_t index = 0; index < 5; ++index) {
    const std::vector<Token>& passage = passages.tokens[index];
    REQUIRE(passage.size() == 2 + 72);
    CHECK(decode({passage.begin(), passage.begin() + 2}) == "\n\n");
    const auto found = std::search(excerpt.context.begin(), excerpt.context.end(), passage.begin() + 2, passage.end());
    const auto at = static_cast<size_t>(found - excerpt.context.begin());
    CHECK(at >= kPlaces[index]);
    CHECK(at < kPlaces[index] + 20);
  }
  eval::TaskSizes other = sizes;
  CHECK(eval::make_passages(tokenizer, "t", excerpt.context, other).tokens == passages.tokens);
  other.seed = 4;
  CHECK(eval::make_passages(tokenizer, "t", excerpt.context, other).tokens != passages.tokens);
  CHECK(eval::make_passages(tokenizer, "u", excerpt.context, sizes).tokens != passages.tokens);
  const std::vector<Token> tight(excerpt.context.begin(), excerpt.context.begin() + 72);
  CHECK(eval::make_passages(tokenizer, "t", tight, sizes).tokens[4].size() == 2 + 72);
  CHECK_THROWS_AS(eval::make_passages(tokenizer, "t", {tight.begin(), tight.end() - 1}, sizes), UsageError);
}

TEST_CASE("a record of lines fills the context and its questions have one right answer each") {
  const text::Tokenizer tokenizer(talking_model());
  const eval::TaskSizes sizes{.context = 2000, .questions = 20, .seed = 3};
  const eval::Lines lines = eval::make_lines(tokenizer, "t", sizes);
  CHECK(lines.record.size() <= 2000);
  CHECK(lines.record.size() > 2000 - 60);  // the next line would not have fitted
  const std::string record = decode(lines.record);
  CHECK(std::count(record.begin(), record.end(), '\n') == lines.count + 2);
  std::set<std::string> asked;
  REQUIRE(lines.questions.size() == 20);
  size_t before = 0;
  for (const eval::Question& question : lines.questions) {
    const std::string text = decode(lines.common) + decode(question.ask), answer = decode(question.answer);
    const std::string start = "\nNow tell me: what is the REGISTER_CONTENT in line ";
    REQUIRE(text.starts_with(start));
    const std::string name = text.substr(start.size(), text.find('?') - start.size());
    CHECK(text == start + name + "?\nThe REGISTER_CONTENT in line " + name + " is <");
    const std::string line = "line " + name + ": REGISTER_CONTENT is <";
    const size_t at = record.find(line);
    REQUIRE(at != std::string::npos);
    CHECK(record.find(line, at + 1) == std::string::npos);
    CHECK(record.substr(at + line.size(), 7) == answer + ">\n");
    CHECK(answer.size() == 5);
    CHECK(asked.insert(name).second);
    CHECK(question.ask.size() >= before);  // shortest first
    before = question.ask.size();
  }
  CHECK(decode(lines.common).size() >= 51);  // what all begin with is read once
  CHECK(eval::make_lines(tokenizer, "t", sizes).record == lines.record);
  CHECK(eval::make_lines(tokenizer, "u", sizes).record != lines.record);
  CHECK_THROWS_AS(eval::make_lines(tokenizer, "t", {.context = 500, .questions = 20}), UsageError);
  const eval::Lines many = eval::make_lines(tokenizer, "t", {.context = 60000, .questions = 1});
  CHECK(many.count > 676);  // more than there are names of two words
}

TEST_CASE("a full cache of coarser rows is measured against the full f16 cache") {
  const TemporaryFolder folder;
  const std::string text = folder.file("novel.txt", story(2000));
  const auto full = [&](const char* name, const std::vector<std::string>& types) {
    const std::string output = folder.path(name);
    std::vector<std::string> command = quick(text, output, "none");
    command.insert(command.end(), types.begin(), types.end());
    const Outcome outcome = kvmerger(command);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return row_of(rows_of(output), "none", "");
  };
  const Json both = full("both.jsonl", {"-ctk", "q8_0", "-ctv", "q8_0"}), values = full("v.jsonl", {"-ctv", "q8_0"});
  CHECK(both.at("cache_type").text() == "q8_0");
  CHECK(values.at("cache_type").text() == "f16/q8_0");
  for (const Json* row : {&both, &values}) {
    CHECK(row->at("kl").number() > 1e-9);
    CHECK(row->at("kl").number() < 0.01);
  }
}

TEST_CASE("the full cache loses nothing, smaller ones do, and rows tell what was done") {
  const TemporaryFolder folder;
  const std::string text = folder.file("novel.txt", story(2000)), output = folder.path("out.jsonl");
  const Outcome outcome = kvmerger(quick(text, output, "none,h2o,streaming_llm:sinks=2"));
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::vector<Json> rows = rows_of(output);
  REQUIRE(rows.size() == 5);
  const Json& full = row_of(rows, "none", "");
  for (const char* key : {"kl", "dnll", "recall_dnll", "lines_dnll"}) {
    CHECK_MESSAGE(std::abs(full.at(key).number()) < 1e-9, key);
  }
  CHECK(full.at("top1").number() == 1.0);
  CHECK(full.at("rows_share").number() == 1.0);
  CHECK(full.at("lines_em").number() == full.at("lines_em_full").number());
  CHECK(full.at("bytes").integer() == full.at("bytes_full").integer());
  for (const char* budget : {"50%", "25%"}) {
    const Json& row = row_of(rows, "streaming_llm:sinks=2", budget);
    CHECK(row.at("text").text() == "novel");
    CHECK(row.at("model").text() == "Toy");
    CHECK(row.at("policy").text() == "streaming_llm:sinks=2");
    CHECK(row.at("heads").text() == "uniform");
    CHECK(row.at("fit").text() == "none");
    CHECK(row.at("context").integer() == 400);
    CHECK(row.at("rows_share").number() == doctest::Approx(std::atof(budget) / 100));
    CHECK(row.at("bytes").number() < row.at("bytes_full").number() * (std::atof(budget) / 100 + 0.05));
    CHECK(row.at("kl").number() > 1e-9);
    CHECK(row.at("compact_s").number() > 0);
    CHECK(row.at("prefill_s").number() > 0);
  }
  CHECK(row_of(rows, "h2o", "25%").at("kl").number() > row_of(rows, "h2o", "50%").at("kl").number());
  CHECK(outcome.out.find("| 25% | h2o | h2o+uniform+none | 25.0 % |") != std::string::npos);
  CHECK(read_file(folder.path("out.md")) == outcome.out);
  CHECK(read_file(folder.path("out.svg")).find("</svg>") != std::string::npos);
  CHECK(outcome.err.find("[5/5]") != std::string::npos);
}

TEST_CASE("rows that are there are not measured again, and a table needs no measuring") {
  const TemporaryFolder folder;
  const std::string text = folder.file("novel.txt", story(2000)), output = folder.path("out.jsonl");
  REQUIRE(kvmerger(quick(text, output, "h2o", "50%")).code == 0);
  const std::string first = read_file(output);
  const Outcome again = kvmerger(quick(text, output, "h2o", "50%"));
  CHECK(again.code == 0);
  CHECK(again.err.find("1 rows, 0 of them") != std::string::npos);
  CHECK(read_file(output) == first);

  folder.file("out.jsonl", first + "{\"text\":\"nov");
  const Outcome more = kvmerger(quick(text, output, "h2o,snapkv,h2o", "50%,25%"));
  CHECK(more.code == 0);
  CHECK(more.err.find("not whole") != std::string::npos);
  CHECK(more.err.find("[3/3]") != std::string::npos);
  CHECK(read_file(output).starts_with(first));
  CHECK(rows_of(output).size() == 4);
  CHECK(row_of(rows_of(output), "h2o", "50%").at("kl").number() == rows_of(output).front().at("kl").number());

  CHECK(kvmerger({"quality", "-o", output, "-f", text, "-c", "400", "--methods", "h2o", "--budgets", "50%",
                  "--continuation", "24", "--passages", "2", "--questions", "3", "--quantised-products"})
            .err.find("1 rows, 1 of them") != std::string::npos);
  const Outcome table = run_program({KVMERGER_BINARY, "quality", "--table", "-o", output});
  CHECK(table.code == 0);
  CHECK(table.out.starts_with(more.out.substr(0, more.out.find("\n\nMeans"))));
  CHECK(run_program({KVMERGER_BINARY, "quality", "--table", "-o", folder.path("none.jsonl")}).code == 1);
}

TEST_CASE("rows do not depend on which other methods are measured beside them") {
  const TemporaryFolder folder;
  const std::string text = folder.file("novel.txt", story(2000));
  REQUIRE(kvmerger(quick(text, folder.path("all.jsonl"), "h2o,snapkv:window=8,snapkv:window=16", "25%")).code == 0);
  const std::vector<Json> all = rows_of(folder.path("all.jsonl"));
  for (const char* method : {"h2o", "snapkv:window=8", "snapkv:window=16"}) {
    CAPTURE(method);
    REQUIRE(kvmerger(quick(text, folder.path("one.jsonl"), method, "25%")).code == 0);
    const std::vector<Json> alone = rows_of(folder.path("one.jsonl"));
    for (const char* key : {"kl", "dnll", "top1", "recall_dnll", "lines_em", "lines_dnll", "bytes"}) {
      CHECK_MESSAGE(row_of(alone, method, "25%").at(key).number() == row_of(all, method, "25%").at(key).number(), key);
    }
  }
}

TEST_CASE("what cannot be measured is refused before anything is") {
  const TemporaryFolder folder;
  const std::string text = folder.file("novel.txt", story(2000)), brief = folder.file("brief.txt", story(500));
  const std::string output = folder.path("out.jsonl");
  const auto refused = [&](std::vector<std::string> arguments, int code, const std::string& word) {
    const Outcome outcome = kvmerger(arguments);
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(outcome.err.find(word) != std::string::npos);
    CHECK(read_file(output).empty());
  };
  const auto with = [](std::vector<std::string> arguments, std::initializer_list<std::string> more) {
    arguments.insert(arguments.end(), more);
    return arguments;
  };
  refused(quick(text, output, "h2o,nonsense"), 2, "nonsense");
  refused(quick(text, output, "h2o", "50%,120%"), 2, "120%");
  refused(quick(brief, output, "h2o"), 1, "335 tokens");  // 500 - 166 behind the first third, and the first
  refused(with(quick(text, output, "h2o"), {"-f", brief}), 1, "brief");
  refused(with(quick(text, output, "h2o"), {"-f", text}), 2, "novel");
  refused(with(quick(text, output, "h2o"), {"--questions", "200"}), 2, "--questions");
  refused(quick(text, folder.path("out.md"), "h2o"), 2, "out.jsonl");  // the table would go there
  refused({"quality", "-o", output}, 2, "-f");
  refused({"quality", "-o", output, "-f", text}, 2, "-c");
  refused({"quality", "-o", output, "-f", text, "-c", "400"}, 2, "--methods");
  folder.file("out.jsonl", "not ours\n");
  const Outcome foreign = kvmerger(quick(text, output, "h2o"));
  CHECK(foreign.code == 1);
  CHECK(foreign.err.find("out.jsonl:1:") != std::string::npos);
  CHECK(read_file(output) == "not ours\n");
}

TEST_CASE("interrupted, it keeps what was measured and goes on later") {
  const TemporaryFolder folder;
  const std::string text = folder.file("novel.txt", story(4000)), output = folder.path("out.jsonl");
  const std::vector<std::string> command = quick(text, output, "h2o,streaming_llm,snapkv,cam", "80%,60%,40%,20%,10%");
  Program program(command_line(command));
  REQUIRE(program.wait_for("[1/20]", true));
  program.signal(SIGINT);
  const Outcome stopped = program.wait();
  CHECK(stopped.code == 130);
  const size_t done = rows_of(output).size();
  CHECK(done >= 1);
  CHECK(done < 20);
  CHECK(stopped.out.find("| h2o |") != std::string::npos);
  const Outcome rest = kvmerger(command);
  CHECK(rest.code == 0);
  CHECK(rows_of(output).size() == 20);
  CHECK(rest.err.find(cat("20 rows, ", 20 - done, " of them")) != std::string::npos);
}

}  // namespace kvmerger::test
