#include "eval/task_file.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "core/error.h"
#include "eval/json_lines.h"
#include "eval/test_folder.h"

namespace kvmerger::eval {
namespace {

std::string task_json(const std::string& name, const std::string& more = "") {
  return cat(R"({"name": ")", name, R"(", "source": {"format": "longbench", "files": ["a.jsonl", "b.jsonl"]},)",
             R"("template": "Read {context}, then {input}", "max_tokens": 7, "metric": "qa_f1",)", more,
             R"("truncation": "context_end", "truncation_note": "...", "chat": false, "stop": ["\n"]})");
}

}  // namespace

TEST_CASE("a task file says all that a prompt needs") {
  const TestFolder folder;
  const TaskFile task = read_task_file(folder.write("t.json", task_json("s/t", R"("options": {"lengths": [9]},)")));
  CHECK(task.name == "s/t");
  CHECK(task.format == "longbench");
  CHECK(task.files == std::vector<std::string>{"a.jsonl", "b.jsonl"});
  CHECK(task.before == "Read ");
  CHECK(task.after == ", then {input}");
  CHECK(task.max_tokens == 7);
  CHECK(task.metric == "qa_f1");
  CHECK(task.cut == Cut::kContextEnd);
  CHECK(task.cut_note == "...");
  CHECK_FALSE(task.chat);
  CHECK(task.stops == std::vector<std::string>{"\n"});
  CHECK(task.options.at("lengths").array().size() == 1);
}

TEST_CASE("what is wrong with a task file is said with its name") {
  const TestFolder folder;
  const auto message = [&](std::string json, const std::string& from, const std::string& to) {
    json.replace(json.find(from), from.size(), to);
    const std::string path = folder.write("t.json", json);
    const std::string text = error_of([&] { read_task_file(path); });
    CHECK(text.starts_with(cat("the task ", path, " cannot be used: ")));
    return text;
  };
  CHECK(message(task_json("t"), "{context}", "").ends_with("the template has no {context}"));
  CHECK(message(task_json("t"), "context_end", "left").ends_with("'left' is not middle, context_end or none"));
  CHECK(message(task_json("t"), "\"metric\"", "\"metrik\"").ends_with("no member 'metric'"));
  CHECK(message(task_json("t"), "7", "-1").ends_with("max_tokens -1 is not a number of tokens"));
}

TEST_CASE("tasks are found by name and by suite, each once") {
  const TestFolder folder;
  for (const char* name : {"b/y", "b/x", "a/z", "bb/w"}) folder.write(cat(name, ".json"), task_json(name));
  const auto names = [&](const std::vector<std::string>& asked) {
    std::string names;
    for (const TaskFile& task : find_tasks(folder.path(""), asked)) names += task.name + " ";
    return names;
  };
  CHECK(names({"a/z"}) == "a/z ");
  CHECK(names({"b"}) == "b/x b/y ");
  CHECK(names({"b/y", "b", "a"}) == "b/y b/x a/z ");
  CHECK(error_of([&] { names({"a", "c"}); }) == "there is no task or suite 'c'; known tasks: a/z, b/x, b/y, bb/w");
  CHECK_THROWS_AS(names({"c"}), UsageError);
  CHECK_THROWS_AS(find_tasks(folder.path("none"), {"a"}), Error);
}

TEST_CASE("a template takes its fields once, and nothing from their values") {
  CHECK(fill_template("{a}-{b}{a}", {{"a", "1"}, {"b", "{a}"}}) == "1-{a}1");
  CHECK(fill_template("f() { return {x}; } {", {{"x", "0"}}) == "f() { return 0; } {");
  CHECK(fill_template("{{a}}", {{"a", "1"}}) == "{1}");
  CHECK(fill_template("", {}).empty());
}

TEST_CASE("all tasks of the project can be read, and are called as their files") {
  const std::string folder = "evaluation/tasks";
  REQUIRE(std::filesystem::is_directory(folder));  // tests run in the root of the repository
  size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    const std::string name = std::filesystem::relative(entry.path(), folder).replace_extension("").generic_string();
    CHECK(read_task_file(entry.path().string()).name == name);
    ++count;
  }
  CHECK(count >= 21 + 10);
}

}  // namespace kvmerger::eval
