// kvmerger bench on the toy model: what is measured on which cache, the forms of output, refusals. No figure of speed
// is expected to be anything.
#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "cli_tools.h"
#include "core/json.h"

namespace kvmerger::test {
namespace {

constexpr uint32_t kHeads = kTalkingLayers * kTalkingHeads;
constexpr uint32_t kRowNumbers = 2 * 16;  // of K and V together
constexpr uint32_t kMetadata = 12;        // position, bias, mass

std::vector<std::string> bench(std::vector<std::string> more) {
  more.insert(more.begin(), "bench");
  return more;
}

Json::Array rows_of(std::vector<std::string> more) {
  more.insert(more.end(), {"-o", "json"});
  const Outcome outcome = kvmerger(bench(more));
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return parse_json(outcome.out).array();
}

int64_t whole(const Json& row, const char* key) { return row.at(key).integer(); }

void expect(int code, const std::vector<std::string>& words, std::vector<std::string> more) {
  const Outcome outcome = kvmerger(bench(std::move(more)));
  INFO(outcome.err);
  CHECK(outcome.code == code);
  CHECK(outcome.out.empty());
  const size_t error = outcome.err.find("error: ");
  REQUIRE(error != std::string::npos);
  CHECK(std::count(outcome.err.begin() + static_cast<std::ptrdiff_t>(error), outcome.err.end(), '\n') == 1);
  for (const std::string& word : words) CHECK_MESSAGE(outcome.err.find(word) != std::string::npos, word);
}

}  // namespace

TEST_CASE("every test at every depth, on a cache that holds as many rows") {
  const Json::Array rows = rows_of({"-p", "32", "-n", "8", "-d", "0,100", "-r", "3"});
  REQUIRE(rows.size() == 4);
  const char* names[] = {"pp32", "tg8", "pp32 @ d100", "tg8 @ d100"};
  const uint32_t tokens[] = {32, 8, 132, 108};
  for (size_t at = 0; at < 4; ++at) {
    const Json& row = rows[at];
    CHECK(row.at("test").text() == names[at]);
    CHECK(row.at("rows_per_head").number() == tokens[at]);
    CHECK(whole(row, "kv_bytes_full") == int64_t{tokens[at]} * kHeads * (kRowNumbers * 2 + kMetadata));
    CHECK(whole(row, "kv_bytes") >= whole(row, "kv_bytes_full"));
    CHECK(whole(row, "kv_bytes_peak") >= whole(row, "kv_bytes"));
    CHECK(whole(row, "peak_rss_bytes") > 1'000'000);
    CHECK(whole(row, "n_threads") == 1);
    CHECK(row.at("policy").text() == "none");
    const Json::Array& samples = row.at("samples_ts").array();
    REQUIRE(samples.size() == 3);
    const double sum = samples[0].number() + samples[1].number() + samples[2].number();
    CHECK(row.at("avg_ts").number() == doctest::Approx(sum / 3));
    CHECK((row.at("fill_ts").get<std::nullptr_t>() == nullptr) == (at >= 2));
    // Token t of 8 sees the depth, those before it and itself.
    const bool generates = at % 2 == 1;
    const double depth = at < 2 ? 0 : 100, seen = depth + (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8) / 8.0;
    CHECK((row.at("cache_bytes_per_token").get<std::nullptr_t>() == nullptr) == generates);
    if (generates) CHECK(row.at("cache_bytes_per_token").number() == seen * kHeads * kRowNumbers * 2);
  }
}

TEST_CASE("budgets are met at the depth, and what decoding reads follows the rows and their type") {
  const Json::Array rows = rows_of({"-p", "0", "-n", "4", "-d", "200", "-r", "1", "--method", "none,streaming_llm",
                                    "--kv-budget", "50%,25%", "-ctk", "f16,f32"});
  REQUIRE(rows.size() == 2 * 3);
  const double after[] = {200, 200, 100, 100, 50, 50};
  for (size_t at = 0; at < rows.size(); ++at) {
    CAPTURE(at);
    CHECK(rows[at].at("rows_per_head").number() == after[at] + 4);
    const uint32_t row_bytes = at % 2 == 0 ? 16 * 2 + 16 * 2 : 16 * 4 + 16 * 2;
    CHECK(rows[at].at("type_k").text() == (at % 2 == 0 ? "f16" : "f32"));
    CHECK(rows[at].at("cache_bytes_per_token").number() == (after[at] + 2.5) * kHeads * row_bytes);
    CHECK(rows[at].at("budget").text() == (at < 2 ? "" : at < 4 ? "50%" : "25%"));
    CHECK((rows[at].at("fill_compaction_s").number() > 0) == (at >= 2));
  }
}

TEST_CASE("streaming: a prompt is compacted while it is read, at any depth") {
  for (const char* depth : {"0", "300"}) {
    CAPTURE(depth);
    const Json::Array rows = rows_of({"-p", "1000", "-n", "0", "-d", depth, "-b", "125", "-r", "2", "--kv-policy",
                                      "streaming_llm", "--kv-budget", "64", "--kv-when", "prefill,stream"});
    REQUIRE(rows.size() == 2);
    const bool empty = std::string(depth) == "0";
    CHECK(rows[0].at("rows_per_head").number() == (empty ? 64 : 1064));  // behind a document it is a question
    CHECK(rows[1].at("rows_per_head").number() == 64);
    CHECK(rows[1].at("test_compaction_s").number() > 0);
    CHECK(whole(rows[1], "kv_bytes_peak") < whole(rows[0], "kv_bytes_peak") / 3);
  }
  const Json::Array decoded = rows_of({"-p", "0", "-n", "300", "-d", "200", "-r", "1", "--kv-policy", "streaming_llm",
                                       "--kv-budget", "64", "--kv-when", "prefill+decode"});
  // Over 64 rows by more than 128, generating compacts: after 129 and 258 tokens.
  CHECK(decoded.at(0).at("rows_per_head").number() == 64 + 300 - 2 * 129);
}

TEST_CASE("the forms of output hold the same rows") {
  const auto output = [](const std::string& format) {
    const Outcome outcome = kvmerger(bench({"-p", "8,16", "-n", "4", "-r", "1", "-o", format}));
    CHECK(outcome.code == 0);
    return outcome.out;
  };
  const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  const std::string table = output("md"), csv = output("csv"), json_lines = output("jsonl");
  CHECK(lines(table) == 2 + 3);
  CHECK(table.find("tg4 ") != std::string::npos);
  CHECK(lines(csv) == 1 + 3);
  CHECK(csv.starts_with("version,"));
  CHECK(lines(json_lines) == 3);
  CHECK(parse_json(json_lines.substr(0, json_lines.find('\n'))).at("test").text() == "pp8");
  CHECK(run_program({KVMERGER_BINARY, "bench", "-m", talking_model(), "-t", "1,2", "-b", "64,128", "-p", "4", "-n", "0",
                     "-r", "1", "-o", "csv", "-q"})
            .out.find("pp4") != std::string::npos);
}

TEST_CASE("a depth beyond what the model was trained for is measured, with one warning") {
  const Outcome outcome = kvmerger(bench({"-p", "1", "-n", "1", "-d", "4000,4200", "-r", "1", "-o", "jsonl"}));
  CHECK(outcome.code == 0);
  const size_t warning = outcome.err.find("warning: ");
  REQUIRE(warning != std::string::npos);
  CHECK(outcome.err.find("4096", warning) != std::string::npos);
  CHECK(outcome.err.find("warning: ", warning + 1) == std::string::npos);
  CHECK(outcome.out.find("tg1 @ d4200") != std::string::npos);
}

TEST_CASE("what cannot be measured is refused in one line, before any work") {
  expect(2, {"-p", "-n", "0"}, {"-p", "0", "-n", "0"});
  expect(2, {"--repetitions"}, {"-r", "0"});
  expect(2, {"--batch-size"}, {"-b", "512,0"});
  expect(2, {"--n-depth"}, {"-d", "-1"});
  expect(2, {"--n-prompt"}, {"-p", "many"});
  expect(2, {"--n-gen"}, {"-n", "99999999999"});
  expect(2, {"--output"}, {"-o", "xml"});
  expect(2, {"--cache-type-k", "f16"}, {"-ctk", "q3"});
  expect(2, {"magic", "h2o"}, {"--method", "magic"});
  expect(2, {"--kv-budget"}, {"--method", "h2o"});
  expect(2, {"--kv-when", "later"}, {"--kv-budget", "50%", "--kv-when", "later"});
  expect(2, {"unknown flag '-ngl'"}, {"-ngl", "5"});
  expect(1, {"1000000128 tokens", "MiB", "-d"}, {"-d", "1000000000", "-p", "0"});
  const Outcome missing = run_program({KVMERGER_BINARY, "bench", "-m", "nowhere.gguf"});
  CHECK(missing.code == 1);
  CHECK(missing.err.find("nowhere.gguf") != std::string::npos);
}

TEST_CASE("an interrupt ends it with whole output, and so does a reader that goes away") {
  Program program(command_line(bench({"-p", "8", "-n", "2000", "-d", "100", "-r", "20", "-o", "json"})));
  REQUIRE(program.wait_for("\"avg_ts\"", false));
  program.signal(SIGINT);
  const Outcome outcome = program.wait();
  CHECK(outcome.code == 130);
  CHECK(parse_json(outcome.out).array().size() == 1);
  CHECK(kvmerger(bench({"-p", "8", "-n", "0", "-r", "1"}), {"", {}, true}).code == 1);
}

}  // namespace kvmerger::test
