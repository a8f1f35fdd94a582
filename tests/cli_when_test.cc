// The program on a toy model: when it compacts, whether the question is seen, budgets that are an error.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cli_tools.h"

namespace kvmerger::test {
namespace {

constexpr uint32_t kAllHeads = kTalkingLayers * kTalkingHeads;
const std::string kText = story(900);

int64_t whole(const Json& json, const char* key) { return json.at(key).integer(); }

// The report of an answer about the text.
Json report_with(std::vector<std::string> arguments, const std::string& question = "What?") {
  const TemporaryFolder folder;
  arguments.insert(arguments.begin(), {"run", "-f", folder.file("document.txt", kText), "-p", question, "--temp", "0",
                                       "--ignore-eos", "-b", "128"});
  return report_of(arguments);
}

void expect_usage_error(const std::vector<std::string>& arguments, const std::vector<std::string>& words) {
  std::vector<std::string> all{"run", "-p", "Hello", "-n", "1"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Outcome outcome = kvmerger(all);
  INFO(outcome.err);
  CHECK(outcome.code == 2);
  for (const std::string& word : words) CHECK_MESSAGE(outcome.err.find(word) != std::string::npos, word);
}

}  // namespace

TEST_CASE("stream and decode keep rows and bytes down to the end, and the report counts the compactions") {
  const std::vector<std::string> method{"--kv-policy", "h2o", "--kv-budget", "64", "-n", "300"};
  const auto kv = [&](const char* when) {
    std::vector<std::string> arguments = method;
    arguments.insert(arguments.end(), {"--kv-when", when});
    const Json report = report_with(arguments);
    CHECK(report.at("kv").at("when").text() == when);
    CHECK(whole(report, "generated_tokens") == 300);
    return report.at("kv");
  };
  const int64_t document = kBeforeText + 900, question = 2 + 5 + kBehindText, said = 299;  // the last is never read
  const Json prefill = kv("prefill"), stream = kv("stream"), both = kv("stream+decode"), later = kv("decode");
  CHECK(whole(prefill, "rows_end") == kAllHeads * (64 + question + said));
  CHECK(whole(stream, "rows_end") == whole(prefill, "rows_end"));
  CHECK(whole(prefill, "compactions") == 1);
  CHECK(whole(stream, "compactions") == (document + 127) / 128);
  CHECK(whole(prefill, "bytes_before") == whole(stream, "bytes_before"));
  CHECK(whole(prefill, "bytes_peak") >= whole(prefill, "bytes_before"));
  CHECK(whole(stream, "bytes_peak") < whole(prefill, "bytes_peak") / 2);
  CHECK(whole(stream, "rows_before") == kAllHeads * document);
  CHECK(whole(stream, "rows_after") == kAllHeads * 64);

  const int64_t runs = (question + said) / 129;
  CHECK(whole(both, "compactions") == (document + 127) / 128 + runs);
  CHECK(whole(both, "rows_end") == kAllHeads * (64 + question + said - 129 * runs));
  CHECK(whole(later, "compactions") == 1 + (said - 1) / 129);  // the first token, then as above
  CHECK(whole(later, "rows_end") == kAllHeads * (64 + (said - 1) % 129));
}

TEST_CASE("moments that do not exist, or have nothing to keep to") {
  expect_usage_error({"--kv-budget", "50%", "--kv-when", "later"}, {"later", "prefill", "stream", "decode"});
  expect_usage_error({"--kv-budget", "50%", "--kv-when", "prefill+later"}, {"later", "prefill"});
  expect_usage_error({"--kv-budget", "50%", "--kv-when", ""}, {"prefill"});
  expect_usage_error({"--kv-when", "stream"}, {"--kv-budget"});
  expect_usage_error({"--kv-when", "decode"}, {"--kv-budget"});
  expect_usage_error({"--kv-policy", "kvmerger:epsilon=0.8", "--kv-when", "stream"}, {"--kv-budget"});
}

TEST_CASE("with --kv-question-aware the policy sees the question, without it not") {
  const auto kv = [&](const std::string& question, bool aware) {
    std::vector<std::string> arguments{"-n", "1", "--kv-policy", "snapkv+ada", "--kv-budget", "30%"};
    if (aware) arguments.emplace_back("--kv-question-aware");
    const Json cache = report_with(arguments, question).at("kv");
    CHECK(cache.at("question_aware").boolean() == aware);
    return cache;
  };
  const std::string one = "Who was it that came in the night?", two = "zzzzzzzzzzzzz qqqqqqqqqqqqqqqqqqq?";
  REQUIRE(one.size() == two.size());
  const auto rows = [](const Json& cache) { return dump_json(cache.at("rows_per_layer_head")); };
  const Json blind = kv(one, false), aware = kv(one, true);
  CHECK(rows(blind) == rows(kv(two, false)));
  CHECK(rows(aware) != rows(kv(two, true)));
  CHECK(whole(blind, "rows_before") == kAllHeads * (kBeforeText + 900));
  CHECK(whole(aware, "rows_before") ==
        kAllHeads * static_cast<int64_t>(kBeforeText + 900 + 2 + one.size() + kBehindText));
}

TEST_CASE("an error budget comes to a share, which is printed and reported and can be given as a budget") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", kText);
  const std::string path = folder.path("report.json");
  const Outcome outcome = kvmerger({"run", "-f", document, "-p", "What?", "-n", "8", "--temp", "0", "--kv-policy",
                                    "expected_attention", "--kv-budget", "auto:0.3", "--report", path});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const Json found = parse_json(read_file(path)).at("kv");
  const std::string chosen = found.at("budget_chosen").text();
  CHECK(found.at("budget").text() == "auto:0.3");
  CHECK(found.at("predicted_error").number() <= 0.3);
  CHECK(chosen.ends_with('%'));
  CHECK(whole(found, "rows_after") < whole(found, "rows_before"));
  CHECK(outcome.err.find("auto:0.3 came to " + chosen) != std::string::npos);
  const Json given = report_with({"-n", "1", "--kv-policy", "expected_attention", "--kv-budget", chosen}).at("kv");
  CHECK(given.at("budget_chosen").get<std::string>() == nullptr);
  CHECK(dump_json(given.at("rows_per_layer_head")) == dump_json(found.at("rows_per_layer_head")));
  CHECK(given.at("predicted_error").number() == doctest::Approx(found.at("predicted_error").number()).epsilon(0.01));

  for (const char* wrong : {"auto:0", "auto:1", "auto:x", "auto:", "auto:-1", "autos"}) {
    CAPTURE(wrong);
    expect_usage_error({"--kv-budget", wrong}, {"auto:0.1", "35%", "2048", "64MiB"});
  }
  for (const char* when : {"stream", "decode", "prefill+decode"}) {
    CAPTURE(when);
    expect_usage_error({"--kv-budget", "auto", "--kv-when", when}, {"auto", "whole text"});
  }
  expect_usage_error({"--kv-budget", "auto", "--kv-policy", "none"}, {"none"});
}

}  // namespace kvmerger::test
