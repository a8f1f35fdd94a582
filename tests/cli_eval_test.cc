// kvmerger eval on the toy model: answers as `run` gives them, going on after a stop, refusals, scoring.
#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "cli_tools.h"
#include "core/json.h"

namespace kvmerger::test {
namespace {

constexpr const char* kAnswer = "12";  // tokens

std::vector<Json> json_lines(const std::string& bytes) {
  std::vector<Json> lines;
  for (size_t at = 0, end; (end = bytes.find('\n', at)) != std::string::npos; at = end + 1) {
    lines.push_back(parse_json(bytes.substr(at, end - at)));
  }
  return lines;
}

// A folder with a task of two samples, their data, and a program that knows only this task.
class Bench {
 public:
  Bench() {
    folder_.file("data.jsonl", sample("first", 0) + sample("second", 1));
    task("none", "data.jsonl");
  }
  void task(const std::string& truncation, const std::string& file) const {
    std::filesystem::create_directories(folder_.path("evaluation/tasks/toy"));
    folder_.file("evaluation/tasks/toy/task.json",
                 R"({"name": "toy/task", "source": {"format": "longbench", "files": [")" + file + R"("]},)" +
                     R"("template": "{context}\n\n{input}", "max_tokens": )" + kAnswer +
                     R"(, "metric": "qa_f1", "truncation": ")" + truncation + R"(", "chat": true})");
  }
  static std::string document(int number) { return story(static_cast<size_t>(400 + 100 * number)); }
  static std::string question(int number) { return "What of " + std::to_string(number) + "?"; }

  std::vector<std::string> arguments(std::vector<std::string> more) const {
    more.insert(more.begin(), {"eval", "--tasks", "toy", "--data", folder_.path(""), "-o", out()});
    return more;
  }
  Outcome eval(const std::vector<std::string>& more) const { return kvmerger(arguments(more), surroundings()); }
  Surroundings surroundings() const {
    Surroundings surroundings;
    surroundings.variables = {{"KVMERGER_EVALUATION", folder_.path("evaluation")}};
    return surroundings;
  }
  std::string out() const { return folder_.path("out"); }
  std::string predictions() const { return read_file(out() + "/predictions.jsonl"); }
  std::vector<Json> lines() const { return json_lines(predictions()); }
  const TemporaryFolder& folder() const { return folder_; }

  // What `run` answers to the same document and question.
  std::string run(int number, const std::vector<std::string>& cache) const {
    const std::string file = folder_.file("document.txt", document(number) + "\n");
    std::vector<std::string> arguments{"run", "-f", file, "-p", question(number), "--temp", "0", "-n", kAnswer};
    arguments.insert(arguments.end(), cache.begin(), cache.end());
    const Outcome outcome = kvmerger(arguments);
    REQUIRE(outcome.code == 0);
    return outcome.out;
  }

 private:
  static std::string sample(const std::string& id, int number) {
    return dump_json(Json::Object{{"_id", id},
                                  {"context", document(number)},
                                  {"input", question(number)},
                                  {"answers", Json::Array{"x"}}},
                     -1) +
           "\n";
  }

  TemporaryFolder folder_;
};

const Json& line_of(const std::vector<Json>& lines, const std::string& id, const std::string& method,
                    const std::string& budget) {
  const auto found = std::find_if(lines.begin(), lines.end(), [&](const Json& line) {
    return line.at("id").text() == id && line.at("method").text() == method && line.at("budget").text() == budget;
  });
  REQUIRE(found != lines.end());
  return *found;
}

// `run` ends its output with a line break.
std::string with_break(std::string text) { return text.ends_with('\n') ? text : text + "\n"; }

}  // namespace

TEST_CASE("predictions are what run answers, without and with the question in sight") {
  for (const bool aware : {false, true}) {
    const Bench bench;
    std::vector<std::string> more{"--policies", "none,h2o,snapkv", "--budgets", "50%,25%"}, sight;
    if (aware) {
      more.emplace_back("--question-aware");
      sight.emplace_back("--kv-question-aware");
    }
    const Outcome outcome = bench.eval(more);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const std::vector<Json> lines = bench.lines();
    REQUIRE(lines.size() == 2 * 5);
    for (const int number : {0, 1}) {
      const std::string id = number == 0 ? "first" : "second";
      CHECK(with_break(line_of(lines, id, "none", "").at("prediction").text()) == bench.run(number, sight));
      for (const char* method : {"h2o", "snapkv"}) {
        std::vector<std::string> cache{"--kv-policy", method, "--kv-budget", "25%"};
        cache.insert(cache.end(), sight.begin(), sight.end());
        const Json& line = line_of(lines, id, method, "25%");
        CHECK(with_break(line.at("prediction").text()) == bench.run(number, cache));
        CHECK(line.at("mode").text() == (aware ? "question-aware" : "question-agnostic"));
      }
    }
  }
}

TEST_CASE("a line says how many rows, bytes and tokens there were") {
  const Bench bench;
  REQUIRE(bench.eval({"--policies", "none,h2o", "--budgets", "50%", "--limit", "1"}).code == 0);
  const std::vector<Json> lines = bench.lines();
  REQUIRE(lines.size() == 2);
  const int64_t document = kBeforeText + 400, heads = kTalkingLayers * kTalkingHeads;
  const Json &full = line_of(lines, "first", "none", ""), &half = line_of(lines, "first", "h2o", "50%");
  for (const Json* line : {&full, &half}) {
    CHECK(line->at("rows_before").integer() == document * heads);
    CHECK(line->at("prompt_tokens").integer() ==
          document + 2 + static_cast<int64_t>(Bench::question(0).size()) + kBehindText);
    CHECK(line->at("dropped_tokens").integer() == 0);
    CHECK(line->at("bytes_full").integer() == full.at("bytes").integer());
  }
  CHECK(full.at("rows").integer() == document * heads);
  CHECK(full.at("head_rows").get<std::nullptr_t>());
  CHECK(half.at("rows").integer() <= document * heads / 2);
  CHECK(half.at("bytes").integer() < full.at("bytes").integer() * 6 / 10);
  int64_t rows = 0;
  for (const Json& layer : half.at("head_rows").array()) {
    CHECK(layer.array().size() == kTalkingHeads);
    for (const Json& head : layer.array()) rows += head.integer();
  }
  CHECK(half.at("head_rows").array().size() == kTalkingLayers);
  CHECK(rows == half.at("rows").integer());
}

TEST_CASE("eval goes on where it was stopped, and refuses another run's folder") {
  const Bench bench;
  REQUIRE(bench.eval({"--policies", "none,h2o", "--budgets", "50%"}).code == 0);
  const std::string all = bench.predictions();
  const size_t second = all.find('\n', all.find('\n') + 1) + 1;
  bench.folder().file("out/predictions.jsonl", all.substr(0, second + 20));  // two lines and a piece of the third
  const Outcome again = bench.eval({"--policies", "none,h2o", "--budgets", "50%"});
  CHECK(again.code == 0);
  CHECK(again.err.find("is not whole") != std::string::npos);
  CHECK(again.err.find("[2/2]") != std::string::npos);
  CHECK(bench.predictions().substr(0, second) == all.substr(0, second));
  CHECK(bench.lines().size() == 4);
  REQUIRE(bench.eval({"--policies", "tova", "--budgets", "50%"}).code == 0);  // more methods go into the same folder
  CHECK(bench.lines().size() == 6);
  const Outcome other = bench.eval({"--policies", "none", "--seed", "3"});
  CHECK(other.code == 2);
  CHECK(other.err.find("its seed is 0, now 3") != std::string::npos);
  CHECK(bench.lines().size() == 6);
}

TEST_CASE("an interrupt leaves whole lines") {
  const Bench bench;
  {
    Program program(command_line(bench.arguments({"--policies", "none,h2o,tova,snapkv,knorm,keydiff", "--budgets",
                                                  "90%,80%,70%,60%,50%,40%,30%,20%,10%"})),
                    bench.surroundings());
    REQUIRE(program.wait_for("[2/", true));
    program.signal(SIGINT);
    const Outcome outcome = program.wait();
    CHECK(outcome.code == 130);
    CHECK(outcome.err.find("goes on where it stopped") != std::string::npos);
  }
  CHECK(bench.predictions().ends_with('\n'));
  CHECK(bench.lines().size() >= 2);
  CHECK(bench.lines().size() < 2 * (1 + 5 * 9));
}

TEST_CASE("what cannot be measured is refused before anything is") {
  const Bench bench;
  const auto refuses = [&](const std::vector<std::string>& more, int code, const std::string& message) {
    const Outcome outcome = bench.eval(more);
    CAPTURE(outcome.err);
    CHECK(outcome.code == code);
    CHECK(outcome.err.find(message) != std::string::npos);
    CHECK(bench.predictions().empty());
  };
  refuses({}, 2, "no methods: name them with --policies");
  refuses({"--policies", "h3o"}, 2, "there is no policy 'h3o'");
  refuses({"--policies", "h2o"}, 2, "needs a budget");
  refuses({"--policies", "none", "-c", "100"}, 1, "task toy/task, sample first: the prompt has ");
  refuses({"--policies", "none", "-c", "12"}, 1, "the task toy/task has answers of 12 tokens");
  bench.task("none", "other.jsonl");
  refuses({"--policies", "none"}, 1, "no data for the task toy/task; looked for ");
  bench.folder().file("other.jsonl", "{\"context\": \"c\"}\n");
  refuses({"--policies", "none"}, 1, "other.jsonl:1: the field 'input' is missing");
  bench.folder().file("evaluation/tasks/toy/task.json", "{}");
  refuses({"--policies", "none"}, 1, "task.json cannot be used: ");
  std::vector<std::string> nowhere = bench.arguments({"--policies", "none"});
  std::replace(nowhere.begin(), nowhere.end(), bench.out(), std::string("/proc/none"));
  const Outcome outcome = kvmerger(nowhere, bench.surroundings());
  CHECK(outcome.code == 1);
}

TEST_CASE("a prompt that is too long is cut as its task says, and the line says how much") {
  const Bench bench;
  bench.task("middle", "data.jsonl");
  REQUIRE(bench.eval({"--policies", "none", "-c", "300"}).code == 0);
  for (const Json& line : bench.lines()) {
    const int64_t around = kBeforeText + kBehindText, room = 300 - 12;
    const int64_t whole = line.at("prompt_tokens").integer() + line.at("dropped_tokens").integer();
    CHECK(line.at("prompt_tokens").integer() == around + (room - around) / 2 * 2);
    CHECK(whole == around + static_cast<int64_t>(Bench::document(static_cast<int>(line.at("index").integer())).size()) +
                       2 + static_cast<int64_t>(Bench::question(0).size()));
  }
}

TEST_CASE("traces say of which tokens the rows of the first sample are made") {
  const Bench bench;
  const Outcome outcome = bench.eval({"--policies", "none,h2o,paper", "--budgets", "50%", "--traces"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::vector<Json> traces = json_lines(read_file(bench.out() + "/traces.jsonl"));
  REQUIRE(traces.size() == 2);
  const std::vector<Json> lines = bench.lines();
  for (const Json& trace : traces) {
    const std::string& method = trace.at("method").text();
    CHECK(trace.at("id").text() == "first");
    CHECK(trace.at("tokens").array().size() == kBeforeText + 400);
    CHECK(trace.at("similarity").array().size() == (method == "h2o" ? 256 * 256 : 0));  // once for both
    const auto layer = static_cast<size_t>(trace.at("layer").integer());
    const Json& kept = line_of(lines, "first", method, "50%").at("head_rows").array().at(layer).array().at(0);
    CHECK(trace.at("rows").array().size() == static_cast<size_t>(kept.integer()));
    size_t sources = 0;
    int64_t last = -1;
    for (const Json& row : trace.at("rows").array()) {
      sources += row.array().size();
      last = std::max(last, row.array().back().integer());
    }
    CHECK(last == kBeforeText + 399);  // the newest row always stays
    CHECK((sources > trace.at("rows").array().size()) == (method == "paper"));
  }
  const auto again = [&](const char* methods) {
    const Outcome outcome = bench.eval({"--policies", methods, "--budgets", "50%", "--traces"});
    REQUIRE(outcome.code == 0);
    return outcome.err;
  };
  CHECK(again("none,h2o,paper").find("not all traces") == std::string::npos);  // they are there
  REQUIRE(bench.eval({"--policies", "tova", "--budgets", "50%"}).code == 0);
  CHECK(again("tova").find("not all traces of toy/task can be made") != std::string::npos);
}

TEST_CASE("scoring without the source says what is missing") {
  const Bench bench;
  const Outcome outcome = run_program({KVMERGER_BINARY, "eval", "score", bench.out()}, bench.surroundings());
  CHECK(outcome.code == 1);
  CHECK(outcome.err.find("kvmerger_eval is not there; name its evaluation folder") != std::string::npos);
}

}  // namespace kvmerger::test
