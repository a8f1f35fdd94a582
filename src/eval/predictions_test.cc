#include "eval/predictions.h"

#include <doctest/doctest.h>

#include "eval/test_folder.h"

namespace kvmerger::eval {
namespace {

Prediction example(const std::string& id) {
  Prediction prediction;
  prediction.key = prediction_key("suite/task", id, "paper", {"kvmerger", "uniform", "none", "35%"}, kQuestionAware);
  prediction.text = "An \"answer\"\n";
  prediction.answers = {"a", "b"};
  prediction.metric = "qa_f1";
  prediction.extra.emplace_back("depth", 0.25);
  prediction.rows = 7;
  prediction.head_rows = {{1, 2}, {3, 1}};
  return prediction;
}

RunFacts facts() {
  RunFacts facts;
  facts.fingerprint = "0123";
  facts.mode = kQuestionAgnostic;
  facts.tasks = {"a"};
  facts.methods = {Json::Object{{"method", "none"}, {"budget", ""}}};
  facts.command = {"kvmerger", "eval"};
  facts.context = 8192;
  facts.started = "then";
  return facts;
}

}  // namespace

TEST_CASE("a prediction's line holds what scoring reads") {
  const Json json = parse_json(dump_json(to_json(example("i")), -1));
  for (const char* key :
       {"task",       "id",          "index",   "method",      "policy", "heads",     "fit",           "budget",
        "mode",       "prediction",  "answers", "all_classes", "metric", "extra",     "prompt_tokens", "dropped_tokens",
        "new_tokens", "rows_before", "rows",    "bytes_full",  "bytes",  "prefill_s", "statistics_s",  "compact_s",
        "decode_s",   "head_rows"}) {
    CAPTURE(key);
    CHECK_NOTHROW(json.at(key));
  }
  CHECK(json.at("prediction").text() == "An \"answer\"\n");
  CHECK(json.at("head_rows").array().at(1).array().at(0).integer() == 3);
  CHECK(json.at("extra").at("depth").number() == 0.25);
  Prediction full = example("i");
  full.head_rows.clear();
  CHECK(to_json(full).at("head_rows").get<std::nullptr_t>());
}

TEST_CASE("what is there is known by its key") {
  const TestFolder folder;
  const std::string path = folder.path("predictions.jsonl");
  CHECK(read_predictions(path).keys.empty());
  ResultsWriter writer(path, {});
  writer.write(to_json(example("i")));
  writer.write(to_json(example("j")));
  const auto keys = read_predictions(path).keys;
  CHECK(keys.size() == 2);
  CHECK(keys.contains(example("j").key));
  PredictionKey other = example("i").key;
  other.mode = kQuestionAgnostic;
  CHECK_FALSE(keys.contains(other));
  writer.write(Json::Object{{"task", "t"}});
  CHECK(error_of([&] { read_predictions(path); }).starts_with(path + ":3: "));
}

TEST_CASE("run.json takes more tasks and methods, and nothing that could not be compared") {
  const TestFolder folder;
  const std::string path = folder.path("run.json");
  update_run_file(path, facts());
  RunFacts more = facts();
  more.tasks = {"b", "a"};
  more.methods.emplace_back(Json::Object{{"method", "h2o"}, {"budget", "50%"}});
  more.command.push_back("--limit");
  more.started = "now";
  update_run_file(path, more);
  const Json json = parse_json(read_file(path));
  CHECK(dump_json(json.at("tasks"), -1) == R"(["a","b"])");
  CHECK(json.at("methods").array().size() == 2);
  CHECK(dump_json(json.at("commands"), -1) == R"([["kvmerger","eval"],["kvmerger","eval","--limit"]])");
  CHECK(json.at("started").text() == "then");
  const std::string before = read_file(path);
  const auto refuses = [&](const char* field, auto change) {
    RunFacts other = facts();
    change(other);
    const std::string message = error_of([&] { update_run_file(path, other); });
    CHECK(message.starts_with(cat(path, " is of another run: its ", field, " is ")));
    CHECK(read_file(path) == before);
  };
  refuses("model", [](RunFacts& other) { other.fingerprint = "4567"; });
  refuses("mode", [](RunFacts& other) { other.mode = kQuestionAware; });
  refuses("context", [](RunFacts& other) { other.context = 4096; });
  refuses("seed", [](RunFacts& other) { other.seed = 1; });
  refuses("haystack", [](RunFacts& other) { other.haystack = "novel.txt"; });
  refuses("data", [](RunFacts& other) { other.data = "/elsewhere"; });
  folder.write("run.json", "{}");
  CHECK(error_of([&] { update_run_file(path, facts()); }).find("is not the file of a run") != std::string::npos);
  folder.write("run.json", "{");
  CHECK(error_of([&] { update_run_file(path, facts()); }).find("cannot be read") != std::string::npos);
}

}  // namespace kvmerger::eval
