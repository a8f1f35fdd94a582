#include "eval/sources.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "eval/test_folder.h"

namespace kvmerger::eval {
namespace {

using Texts = std::vector<std::string>;

TaskFile task_of(const std::string& format) {
  TaskFile task;
  task.name = "suite/task";
  task.format = format;
  task.files = {"one.jsonl", "more/two.jsonl"};
  task.before = "<";
  task.after = "|{input}>";
  return task;
}

std::vector<Sample> read(const std::string& format, const std::string& lines, uint32_t limit = 0) {
  const TestFolder folder;
  return read_source(task_of(format), folder.write("f.jsonl", lines), limit);
}

std::string prompt(const Sample& sample) { return sample.before + sample.context + sample.after; }

// What the error says behind `file:`.
std::string complaint(const std::string& format, const std::string& lines) {
  const std::string text = error_of([&] { read(format, lines); });
  const size_t file = text.find("f.jsonl:");
  return file == std::string::npos ? text : text.substr(file + 8);
}

}  // namespace

TEST_CASE("the first of a task's files that is there is read") {
  const TestFolder folder;
  const TaskFile task = task_of("longbench");
  CHECK(error_of([&] { find_source(task, folder.path("")); }) ==
        cat("no data for the task suite/task; looked for ", folder.path("one.jsonl"), ", ",
            folder.path("more/two.jsonl"), ". Name the folder with --data"));
  const std::string two = folder.write("more/two.jsonl", "");
  CHECK(find_source(task, folder.path("")) == two);
  const std::string one = folder.write("one.jsonl", "");
  CHECK(find_source(task, folder.path("")) == one);
  CHECK(error_of([&] { read_source(task, one, 0); }) == cat(one, " holds no samples for the task suite/task"));
}

TEST_CASE("LongBench: fields go into the template, braces in them stay") {
  const std::string line = R"({"_id": "ab", "context": "C {input}", "input": "Q", )"
                           R"("answers": ["x", "y"], "all_classes": ["k", "l"], "length": 3})";
  const auto samples =
      read("longbench", line + "\n" + R"({"context": "", "input": "", "answers": ["z"],)" + R"("all_classes": null})");
  REQUIRE(samples.size() == 2);
  CHECK(samples[0].id == "ab");
  CHECK(prompt(samples[0]) == "<C {input}|Q>");
  CHECK(samples[0].context == "C {input}");
  CHECK(samples[0].answers == Texts{"x", "y"});
  CHECK(samples[0].classes == Texts{"k", "l"});
  CHECK(samples[1].id == "1");
  CHECK(samples[1].classes.empty());
}

TEST_CASE("what a record lacks is said with its line") {
  CHECK(complaint("longbench", R"({"context": "", "input": "", "answers": ["z"]})"
                               "\n"
                               R"({"context": "", "answers": ["z"]})") == "2: the field 'input' is missing");
  CHECK(complaint("longbench", R"({"context": 3, "input": "", "answers": ["z"]})") ==
        "1: the field 'context' is no text");
  CHECK(complaint("longbench", R"({"context": "", "input": "", "answers": []})") ==
        "1: the field 'answers' is empty: a sample without an answer cannot be scored");
  CHECK(complaint("squality", R"({"metadata": {}, "document": "", "questions": []})") ==
        "1: the field 'passage_id' is missing");
  CHECK(complaint("qmsum", R"({"meeting_transcripts": {}})") == "1: the field 'meeting_transcripts' is no list");
  CHECK(complaint("lines", R"({"prompt": "all in one", "expected_number": 3})") ==
        "1: the prompt does not end with a question on a line of its own");
  CHECK(complaint("kv_retrieval", R"({"ordered_kv_records": [["a"]], "key": "a", "value": "b"})") ==
        "1: a record of 'ordered_kv_records' is no pair of key and value");
  CHECK(complaint("nonsense", "{}").find("unknown format 'nonsense'; formats: longbench, ") != std::string::npos);
}

TEST_CASE("a limit takes the first samples, and looks at no more of the file than it must") {
  const std::string line = R"({"context": "", "input": "", "answers": ["z"]})";
  const std::string lines = line + "\n" + line + "\n" + line + "\nno JSON\n";
  CHECK(read("longbench", lines, 2).size() == 2);
  CHECK_THROWS_AS(read("longbench", lines), Error);
}

TEST_CASE("samples of one id are told apart") {
  const std::string line = R"({"_id": "a", "context": "", "input": "", "answers": ["z"]})";
  const auto samples = read("longbench", line + "\n" + line + "\n" + line);
  CHECK(samples[0].id == "a");
  CHECK(samples[1].id == "a#2");
  CHECK(samples[2].id == "a#3");
}

TEST_CASE("ZeroSCROLLS: places are in characters, references come one a record") {
  // Characters: D at 3 to 5, the query from 7 on; bytes lie one later behind each umlaut.
  const std::string input = "\xC3\xA4:\\nd\xC3\xB6\\n\\nQ?\\nA:";
  const auto record = [&](const std::string& id, const std::string& output) {
    return cat(R"({"id": ")", id, R"(", "input": ")", input, R"(", "output": )", output,
               R"(, "document_start_index": 3, "document_end_index": 5, "query_start_index": 7, )",
               R"("query_end_index": 9, "truncation_seperator": "[cut] "})", "\n");
  };
  const auto samples = read("zeroscrolls", record("p", "\"one\"") + record("p", "\"two\"") + record("q", "[\"3\"]"));
  REQUIRE(samples.size() == 2);
  CHECK(samples[0].before == "\xC3\xA4:\n");
  CHECK(samples[0].context == "d\xC3\xB6");
  CHECK(samples[0].after == "\n\nQ?\nA:");
  CHECK(samples[0].after_cut == "[cut] Q?\nA:");
  CHECK(samples[0].answers == Texts{"one", "two"});
  CHECK(samples[1].answers == Texts{"3"});
  CHECK(complaint("zeroscrolls", record("p", "null")) == "1: the field 'output' is missing");
  CHECK(read("zeroscrolls", record("p", "\"one\"") + record("p", "\"two\"") + record("q", "\"x\""), 1)[0].answers ==
        Texts{"one", "two"});
}

TEST_CASE("SQuALITY: a sample per question, an answer per response") {
  const auto samples = read("squality", R"({"metadata": {"passage_id": "77"}, "document": "D", "questions": [)"
                                        R"({"question_text": "Q1", "question_number": 1, "responses": [)"
                                        R"({"response_text": "a"}, {"response_text": "b"}]},)"
                                        R"({"question_text": "Q2", "question_number": 2, "responses": [)"
                                        R"({"response_text": "c"}]}]})");
  REQUIRE(samples.size() == 2);
  CHECK(samples[0].id == "77-1");
  CHECK(prompt(samples[1]) == "<D|Q2>");
  CHECK(samples[0].answers == Texts{"a", "b"});
}

TEST_CASE("QMSum: turns of speakers without the transcribers' marks, general queries first") {
  const auto samples = read("qmsum", R"({"meeting_transcripts": [{"speaker": "A", "content": "Hi {disfmarker} ."},)"
                                     R"({"speaker": "B", "content": "Yes {vocalsound}"}],)"
                                     R"("general_query_list": [{"query": "G", "answer": "g"}],)"
                                     R"("specific_query_list": [{"query": "S", "answer": "s"}]})");
  REQUIRE(samples.size() == 2);
  CHECK(samples[0].context == "A: Hi  .\nB: Yes ");
  CHECK(prompt(samples[1]) == "<A: Hi  .\nB: Yes |S>");
  CHECK(samples[0].id == "0-g0");
  CHECK(samples[1].id == "0-s0");
  CHECK(samples[1].answers == Texts{"s"});
}

TEST_CASE("prompts of retrieval are split where the question begins") {
  const auto lines = read("lines", R"({"prompt": "Head\nline a: <1>\n\nNow the record is over. Tell me", )"
                                   R"("expected_number": 17, "num_lines": 1})");
  CHECK(prompt(lines[0]) == "<Head\nline a: <1>\n|Now the record is over. Tell me>");
  CHECK(lines[0].answers == Texts{"17"});
  const auto pairs =
      read("kv_retrieval", R"({"ordered_kv_records": [["a", "1"], ["b", "2"]], "key": "b", "value": "2"})");
  CHECK(prompt(pairs[0]) == "<{\"a\": \"1\",\n \"b\": \"2\"}|b>");
  const auto passkey = read("passkey", R"({"input": "Hay", "target": "12", "passkey_position": 3})");
  CHECK(prompt(passkey[0]) == "<Hay|>");
  CHECK(passkey[0].answers == Texts{"12"});
  const auto ruler = read("ruler", R"({"index": 4, "input": "Hay\nstack\nWhat?", "outputs": ["1", "2"],)"
                                   R"("answer_prefix": " It is"})");
  CHECK(ruler[0].id == "4");
  CHECK(ruler[0].context == "Hay\nstack");
  CHECK(prompt(ruler[0]) == "<Hay\nstack|What?> It is");
  CHECK(ruler[0].answers == Texts{"1", "2"});
}

TEST_CASE("a note stands for the line breaks behind a context that is cut") {
  TaskFile task = task_of("longbench");
  task.after = "\n\nQ: {input}";
  task.cut_note = "... [cut]\n\n";
  const Sample sample = make_sample(task, "i", "C", {{"input", "x"}});
  CHECK(sample.after == "\n\nQ: x");
  CHECK(sample.after_cut == "... [cut]\n\nQ: x");
}

}  // namespace kvmerger::eval
