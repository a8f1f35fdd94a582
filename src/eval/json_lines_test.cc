#include "eval/json_lines.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "core/error.h"
#include "eval/test_folder.h"

namespace kvmerger::eval {
namespace {

std::vector<int64_t> numbers(const std::string& path, size_t most = 100) {
  std::vector<int64_t> numbers;
  read_json_lines(path, [&](const Json& json, size_t) {
    numbers.push_back(json.at("n").integer());
    return numbers.size() < most;
  });
  return numbers;
}

}  // namespace

TEST_CASE("records are read line by line, packed or not, as many as are wanted") {
  const TestFolder folder;
  const std::string path = folder.write("it's.jsonl", "{\"n\": 1}\r\n\n{\"n\": 2}\n{\"n\": 3}");
  CHECK(numbers(path) == std::vector<int64_t>{1, 2, 3});
  CHECK(numbers(path, 2) == std::vector<int64_t>{1, 2});
  REQUIRE(std::system(cat("gzip -k \"", path, "\"").c_str()) == 0);
  CHECK(numbers(path + ".gz") == std::vector<int64_t>{1, 2, 3});
}

TEST_CASE("a line that cannot be used is named, and so is a file") {
  const TestFolder folder;
  const std::string broken = folder.write("a.jsonl", "{\"n\": 1}\n\n{\"n\": \n");
  CHECK(error_of([&] { numbers(broken); }).starts_with(broken + ":3: "));
  const std::string list = folder.write("b.jsonl", "[1]\n");
  CHECK(error_of([&] { numbers(list); }) == list + ":1: a JSON object was expected");
  const std::string lacking = folder.write("c.jsonl", "{\"n\": 1}\n{\"m\": 2}\n");
  CHECK(error_of([&] { numbers(lacking); }) == lacking + ":2: JSON: no member 'n'");
  CHECK(error_of([&] { numbers(folder.path("d.jsonl")); }) ==
        cat("cannot read ", folder.path("d.jsonl"), ": No such file or directory"));
  const std::string unpackable = folder.write("e.jsonl.gz", "not packed");
  CHECK(error_of([&] { numbers(unpackable); }).find("with gzip") != std::string::npos);
}

TEST_CASE("results go on behind the last whole line") {
  const TestFolder folder;
  const std::string path = folder.path("r.jsonl");
  std::vector<int64_t> read;
  const auto use = [&](const Json& json) { read.push_back(json.at("n").integer()); };
  CHECK(read_results(path, "{\"n\":", use).whole == 0);
  ResultsWriter(path, {}).write(Json::Object{{"n", 1}});
  std::ofstream(path, std::ios::app) << "{\"n\":2";
  const ResultsRead cut = read_results(path, "{\"n\":", use);
  CHECK(cut.damaged());
  CHECK(cut.whole == std::string("{\"n\":1}\n").size());
  ResultsWriter(path, cut).write(Json::Object{{"n", 3}});
  CHECK(read_file(path) == "{\"n\":1}\n{\"n\":3}\n");
  read.clear();
  CHECK_FALSE(read_results(path, "{\"n\":", use).damaged());
  CHECK(read == std::vector<int64_t>{1, 3});
  std::ofstream(path, std::ios::app) << "no JSON\n";
  CHECK(error_of([&] { read_results(path, "{\"n\":", use); }).starts_with(path + ":3: this is no line of results"));
  const std::string foreign = folder.write("notes.txt", "by another program");
  CHECK(error_of([&] { read_results(foreign, "{\"n\":", use); }).starts_with(foreign + ":1: this is no line"));
}

TEST_CASE("two runs do not write to one file") {
  const TestFolder folder;
  const std::string path = folder.path("r.jsonl");
  const auto ignore = [](const Json&) {};
  const ResultsRead empty = read_results(path, "{\"n\":", ignore);
  {
    ResultsWriter first(path, empty);
    CHECK(error_of([&] { ResultsWriter(path, empty); }).starts_with("another run is writing to " + path));
    first.write(Json::Object{{"n", 1}});
  }
  CHECK(error_of([&] { ResultsWriter(path, empty); }).starts_with("another run is writing to " + path));  // or has
  CHECK(read_file(path) == "{\"n\":1}\n");
  ResultsWriter(path, read_results(path, "{\"n\":", ignore)).write(Json::Object{{"n", 2}});
  CHECK(read_file(path) == "{\"n\":1}\n{\"n\":2}\n");
}

TEST_CASE("lines that another program adds stay") {
  const TestFolder folder;
  const std::string path = folder.write("r.jsonl", "{\"n\":1}\n");
  const auto ignore = [](const Json&) {};
  ResultsWriter whole(path, read_results(path, "{\"n\":", ignore));
  std::ofstream(path, std::ios::app) << "{\"n\":2}\n{\"n\":";
  whole.write(Json::Object{{"n", 3}});
  CHECK(read_file(path).starts_with("{\"n\":1}\n{\"n\":2}\n"));
  const std::string cut = folder.write("cut.jsonl", "{\"n\":1}\n{\"n\":");
  ResultsWriter damaged(cut, read_results(cut, "{\"n\":", ignore));
  std::ofstream(cut, std::ios::app) << "2}\n";
  CHECK(error_of([&] { damaged.write(Json::Object{{"n", 3}}); }).starts_with("another run is writing to " + cut));
  CHECK(read_file(cut) == "{\"n\":1}\n{\"n\":2}\n");
}

TEST_CASE("what can no longer be written is an error, what was written stands") {
  const TestFolder folder;
  const std::string path = folder.path("r.jsonl");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{20, before.rlim_max};  // bytes of a file, as if the disk were full behind them
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  {
    ResultsWriter writer(path, {});
    writer.write(Json::Object{{"n", 1}});
    message = error_of([&] { writer.write(Json::Object{{"n", "a line that is too long"}}); });
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(message == cat("cannot write ", path, ": File too large"));
  CHECK(read_file(path).starts_with("{\"n\":1}\n"));
  std::vector<int64_t> read;
  CHECK(read_results(path, "{\"n\":", [&](const Json& json) { read.push_back(json.at("n").integer()); }).damaged());
  CHECK(read == std::vector<int64_t>{1});
}

TEST_CASE("a file is replaced whole") {
  const TestFolder folder;
  const std::string path = folder.write("f", "before");
  write_atomically(path, "after");
  CHECK(read_file(path) == "after");
  CHECK_FALSE(std::filesystem::exists(path + ".new"));
  CHECK_THROWS_AS(write_atomically(folder.path("none/f"), "x"), Error);
}

}  // namespace kvmerger::eval
