// The program itself on a toy model: what it answers, reports and keeps. Bad input is in cli_input_test.cc.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "cli_tools.h"
#include "core/json.h"
#include "oracle.h"
#include "text/tokenizer.h"

namespace kvmerger::test {
namespace {

constexpr uint32_t kAllHeads = kTalkingLayers * kTalkingHeads;
const std::string kText = story(600);

std::string without_end(const std::string& text) {
  return text.ends_with('\n') ? text.substr(0, text.size() - 1) : text;
}

std::string greedy(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--temp", "0", "-n", "24"});
  const Outcome outcome = kvmerger(arguments);
  INFO(outcome.err);
  CHECK(outcome.code == 0);
  return outcome.out;
}

int64_t whole(const Json& json, const char* key) { return json.at(key).integer(); }

}  // namespace

TEST_CASE("version, help and the lists") {
  CHECK(run_program({KVMERGER_BINARY, "--version"}).out.starts_with("kvmerger "));
  for (const char* command : {"run", "chat", "compress", "ask", "inspect", "perplexity", "list"}) {
    const Outcome help = run_program({KVMERGER_BINARY, command, "--help"});
    CHECK(help.code == 0);
    CHECK(help.out.find("Usage: kvmerger " + std::string(command)) != std::string::npos);
  }
  const Outcome list = run_program({KVMERGER_BINARY, "list"});
  CHECK(list.code == 0);
  for (const char* name :
       {"kvmerger", "h2o", "streaming_llm", "snapkv", "cam", "uniform", "prefill", "qwen2", "sigma="}) {
    CHECK_MESSAGE(list.out.find(name) != std::string::npos, name);
  }
  const Outcome moments = run_program({KVMERGER_BINARY, "list", "moments"});
  CHECK(moments.out.find("prefill") != std::string::npos);
  CHECK(moments.out.find("h2o") == std::string::npos);
}

TEST_CASE("stdout is the answer, stderr the talk, the report what was done") {
  const TemporaryFolder folder;
  const std::string report_path = folder.path("report.json");
  const Outcome outcome = kvmerger({"run", "-p", "Hello", "--temp", "0", "-n", "24", "--report", report_path});
  CHECK(outcome.code == 0);
  const Json report = parse_json(read_file(report_path));
  CHECK(report.at("text").text() == without_end(outcome.out));
  CHECK(whole(report, "prompt_tokens") == kBeforeText + 5 + kBehindText);
  CHECK(whole(report, "read_tokens") == kBeforeText + 5 + kBehindText);
  CHECK(whole(report, "generated_tokens") == 24);
  CHECK(report.at("finish_reason").text() == "length");
  CHECK(report.at("model").at("name").text() == "Toy");
  CHECK(whole(report, "context") == 4096);
  CHECK(report.at("peak_rss_bytes").integer() > 1'000'000);
  const Json& kv = report.at("kv");
  CHECK(kv.at("policy").text() == "none");
  CHECK(kv.at("type").text() == "f16");
  CHECK(whole(kv, "rows_before") == (kBeforeText + 5 + kBehindText) * kAllHeads);
  CHECK(whole(kv, "rows_after") == whole(kv, "rows_before"));
  CHECK(whole(kv, "rows_end") == (kBeforeText + 5 + kBehindText + 23) * kAllHeads);  // the last token is never read
  CHECK(kv.at("share").number() == 1.0);
  for (const char* time : {"load_s", "prefill_s", "compact_s", "decode_s", "first_token_s"}) {
    CHECK(report.at("time").at(time).number() >= 0.0);
  }
  CHECK(report.at("speed").at("decode_tps").number() > 0.0);
  for (const char* word : {"policy none", "context", "tokens", "full cache", "threads"}) {
    CHECK_MESSAGE(outcome.err.find(word) != std::string::npos, word);
  }
  CHECK(kvmerger({"run", "-p", "Hello", "-n", "1", "-q"}).err.empty());
  CHECK(kvmerger({"run", "-p", "Hello", "-n", "1", "-v"}).err.size() > outcome.err.size());
}

TEST_CASE("the same text by any way in gives the same answer") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", kText + "\n");  // llama.cpp drops the last line break too
  const std::string by_prompt = greedy({"run", "-p", kText});
  CHECK(greedy({"run", "-p", kText}) == by_prompt);
  CHECK(greedy({"run", "-f", document}) == by_prompt);
  CHECK(without_end(kvmerger({"run", "-f", "-", "--temp", "0", "-n", "24"}, {kText, {}}).out) ==
        without_end(by_prompt));
  CHECK(greedy({"run", "-f", document, "-p", "What?"}) == greedy({"run", "-p", kText + "\n\nWhat?"}));
  CHECK(greedy({"run", "-f", document, "-p", "What?"}) != by_prompt);
  CHECK(greedy({"run", "-p", kText, "-b", "7"}) == by_prompt);
  CHECK(greedy({"run", "-p", kText, "--no-repack"}) == by_prompt);
  const std::string raw = greedy({"run", "-p", kText, "--raw"});
  CHECK(greedy({"run", "-p", kText, "-no-cnv"}) == raw);
  CHECK(raw != by_prompt);
}

TEST_CASE("escapes, stop strings, seeds, the system prompt") {
  const Json two = report_of({"run", "-p", "a\\nb", "-n", "0"});
  CHECK(whole(two, "prompt_tokens") == kBeforeText + 3 + kBehindText);
  CHECK(two.at("text").text().empty());
  CHECK(two.at("finish_reason").text() == "length");
  CHECK(whole(report_of({"run", "-p", "a\\nb", "-n", "0", "--no-escape"}), "prompt_tokens") ==
        kBeforeText + 4 + kBehindText);
  CHECK(whole(report_of({"run", "-p", "ab", "-sys", "be kind", "-n", "0"}), "prompt_tokens") ==
        kBeforeText + 2 + kBehindText + 1 + 7 + 7 + 2);  // <|im_start|>system\nbe kind<|im_end|>\n

  const Json whole_answer = report_of({"run", "-p", "Hello", "--seed", "7", "-n", "40", "--temp", "2", "--ignore-eos"});
  CHECK(whole(whole_answer, "seed") == 7);
  const std::string text = whole_answer.at("text").text();
  const std::string again =
      report_of({"run", "-p", "Hello", "-s", "7", "-n", "40", "--temp", "2", "--ignore-eos"}).at("text").text();
  CHECK(again == text);
  const size_t ascii = text.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 8);
  REQUIRE(ascii != std::string::npos);
  const std::string stop = text.substr(ascii, 1);
  const Json stopped = report_of({"run", "-p", "Hello", "-s", "7", "-n", "40", "--temp", "2", "--ignore-eos", "-r",
                                  "never there", "--stop", stop});
  CHECK(stopped.at("text").text() == text.substr(0, text.find(stop)));
  CHECK(stopped.at("finish_reason").text() == "stop");
}

TEST_CASE("a budget is met to the row, and reported") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", kText);
  const uint32_t tokens = kBeforeText + 600;
  for (const char* policy : {"kvmerger", "h2o", "streaming_llm", "snapkv", "cam"}) {
    CAPTURE(policy);
    const Json report =
        report_of({"run", "-f", document, "-p", "What?", "-n", "4", "--kv-policy", policy, "--kv-budget", "35%"});
    const Json& kv = report.at("kv");
    CHECK(kv.at("policy").text() == policy);
    CHECK(kv.at("budget").text() == "35%");
    CHECK(whole(kv, "rows_before") == tokens * kAllHeads);
    CHECK(whole(kv, "rows_after") == tokens * kAllHeads * 35 / 100);
    CHECK(kv.at("share").number() == doctest::Approx(0.35).epsilon(0.01));
    CHECK(whole(kv, "bytes_after") < whole(kv, "bytes_before") / 2);
    CHECK(whole(kv, "bytes_peak") >= whole(kv, "bytes_before"));
    int64_t sum = 0;
    const Json::Array& layers = kv.at("rows_per_layer_head").array();
    REQUIRE(layers.size() == kTalkingLayers);
    for (const Json& layer : layers) {
      REQUIRE(layer.array().size() == kTalkingHeads);
      for (const Json& head : layer.array()) sum += head.integer();
    }
    CHECK(sum == whole(kv, "rows_after"));
    CHECK(kv.at("untouched").boolean() == false);
  }
}

TEST_CASE("the policy with a budget is the default, what fits the budget is untouched and answers as the full cache") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", kText);
  const std::string full = greedy({"run", "-f", document, "-p", "What?"});
  const Outcome roomy =
      kvmerger({"run", "-f", document, "-p", "What?", "--kv-budget", "5000", "--temp", "0", "-n", "24"});
  CHECK(roomy.out == full);
  CHECK(roomy.err.find("policy expected_attention") != std::string::npos);
  CHECK(roomy.err.find("untouched") != std::string::npos);
  CHECK(greedy({"run", "-f", document, "-p", "What?", "--kv-budget", "100%"}) == full);
  CHECK(greedy({"run", "-f", document, "-p", "What?", "--kv-budget", "5%", "--kv-policy", "streaming_llm"}) != full);
  const Json f32 = report_of({"run", "-f", document, "-n", "1", "-ctk", "f32", "-ctv", "f32"});
  const Json f16 = report_of({"run", "-f", document, "-n", "1"});
  CHECK(f32.at("kv").at("type").text() == "f32");
  const int64_t numbers = kTalkingLayers * kTalkingHeads * 2 * 16;  // K and V of 16 numbers a token
  const int64_t all = whole(f16, "prompt_tokens");
  CHECK(whole(f32.at("kv"), "bytes_full") - whole(f16.at("kv"), "bytes_full") == all * numbers * 2);
  const Json snap = report_of({"run", "-f", document, "-n", "1", "--kv-policy", "snapkv", "--kv-budget", "50%"});
  CHECK(snap.at("kv").at("statistics").at("recorded").array().size() == 1);
  CHECK(whole(snap.at("kv").at("statistics"), "bytes") > 0);
  CHECK(whole(snap.at("kv"), "bytes_full") == whole(f16.at("kv"), "bytes_full"));  // no statistics in a full cache
}

TEST_CASE("ask continues a snapshot as run would, and reads the question only") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", kText), snapshot = folder.path("document.kvm");
  for (const char* policy : {"none", "kvmerger:value=mean,bias=on", "h2o"}) {
    CAPTURE(policy);
    std::vector<std::string> cache{"--kv-policy", policy};
    if (std::string(policy) != "none") cache.insert(cache.end(), {"--kv-budget", "30%"});
    const auto with_cache = [&](std::vector<std::string> arguments) {
      arguments.insert(arguments.end(), cache.begin(), cache.end());
      return arguments;
    };
    const Outcome made = kvmerger(with_cache({"compress", "-f", document, "-o", snapshot, "-sys", "be kind"}));
    INFO(made.err);
    REQUIRE(made.code == 0);
    CHECK(made.out.empty());
    for (const char* question : {"What?", "Who was it, and why?"}) {
      const Json asked = report_of({"ask", snapshot, "-p", question, "--temp", "0", "-n", "24"});
      const Json run =
          report_of(with_cache({"run", "-f", document, "-p", question, "-sys", "be kind", "--temp", "0", "-n", "24"}));
      CHECK(asked.at("text").text() == run.at("text").text());
      CHECK(whole(asked, "prompt_tokens") == whole(run, "prompt_tokens"));
      CHECK(whole(asked, "read_tokens") == static_cast<int64_t>(2 + std::string(question).size() + kBehindText));
      CHECK(whole(asked, "reused_tokens") + whole(asked, "read_tokens") == whole(asked, "prompt_tokens"));
      CHECK(asked.at("kv").at("policy").text() == policy);
      CHECK(asked.at("snapshot").text() == snapshot);
      CHECK(whole(asked.at("kv"), "rows_end") == whole(run.at("kv"), "rows_end"));
    }
  }
}

TEST_CASE("a chat goes on from the turns before it") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", kText), path = folder.path("report.json");
  const Outcome outcome = kvmerger(
      {"chat", "-f", document, "--kv-budget", "40%", "--temp", "0", "-n", "5", "--ignore-eos", "--report", path},
      {"What?\n\nWho?\n/exit\nnot read\n", {}});
  INFO(outcome.err);
  CHECK(outcome.code == 0);
  const Json::Array turns = parse_json(read_file(path)).at("turns").array();
  REQUIRE(turns.size() == 2);
  const int64_t first = kBeforeText + 600 + 2 + 5 + kBehindText;
  CHECK(whole(turns[0], "reused_tokens") == 0);
  CHECK(whole(turns[0], "read_tokens") == first);
  CHECK(whole(turns[1], "reused_tokens") == first + 4);  // the fifth token was not read when the turn ended
  CHECK(whole(turns[1], "read_tokens") ==
        1 + 2 + 1 + 5 + 4 + kBehindText);  // token, <|im_end|>\n<|im_start|>user\nWho?...
  CHECK(turns[1].at("user").text() == "Who?");
  CHECK(outcome.out == turns[0].at("assistant").text() + "\n" + turns[1].at("assistant").text() + "\n");
  CHECK(outcome.err.find("rows") != std::string::npos);
  CHECK(turns[0].at("assistant").text() == report_of({"run", "-f", document, "-p", "What?", "--kv-budget", "40%",
                                                      "--temp", "0", "-n", "5", "--ignore-eos"})
                                               .at("text")
                                               .text());
}

TEST_CASE("perplexity is llama-perplexity's, on libllama's logits") {
  const TemporaryFolder folder;
  const std::string text = story(400), path = folder.path("report.json");
  const uint32_t chunk = 128;
  double sum = 0.0, squares = 0.0;
  uint32_t count = 0;
  std::string running;
  const text::Tokenizer tokenizer(talking_model());
  const std::vector<int32_t> all = tokenizer.encode(text, true, false);
  REQUIRE(all.size() == 401);
  for (uint32_t first = 0; first + chunk <= all.size(); first += chunk) {
    std::vector<int32_t> tokens(all.begin() + first, all.begin() + first + chunk);
    tokens[0] = tokenizer.bos();
    const std::vector<float> logits = llama_logits(talking_model(), tokens, KvType::kF32, false);
    const size_t vocabulary = logits.size() / chunk;
    for (uint32_t place = chunk / 2; place + 1 < chunk; ++place) {
      double total = 0.0;
      for (size_t token = 0; token < vocabulary; ++token) total += std::exp(double{logits[place * vocabulary + token]});
      const double loss = std::log(total) - double{logits[place * vocabulary + static_cast<size_t>(tokens[place + 1])]};
      sum += loss;
      squares += loss * loss;
      ++count;
    }
  }
  const double mean = sum / count, expected = std::exp(mean);
  const double uncertainty = expected * std::sqrt((squares / count - mean * mean) / (count - 1));
  const Outcome outcome = kvmerger(
      {"perplexity", "-f", folder.file("text.txt", text), "-c", "128", "-ctk", "f32", "-ctv", "f32", "--report", path});
  INFO(outcome.err);
  CHECK(outcome.code == 0);
  const Json result = parse_json(read_file(path)).at("perplexity");
  CHECK(result.at("value").number() == doctest::Approx(expected).epsilon(1e-5));
  CHECK(result.at("uncertainty").number() == doctest::Approx(uncertainty).epsilon(1e-4));
  CHECK(whole(result, "chunks") == 3);
  CHECK(whole(result, "tokens_scored") == count);
  CHECK(outcome.out.starts_with("[1]"));
  CHECK(outcome.out.find("[3]") != std::string::npos);
  CHECK(outcome.out.find("PPL = ") != std::string::npos);
  CHECK(kvmerger({"perplexity", "-f", folder.path("text.txt"), "-c", "128", "--chunks", "1"}).out.find("[2]") ==
        std::string::npos);
  const Outcome too_short = kvmerger({"perplexity", "-f", folder.path("text.txt"), "-c", "256"});
  CHECK(too_short.code == 1);
  CHECK(too_short.err.find("401") != std::string::npos);
}

TEST_CASE("inspect tells what the file holds") {
  const Outcome json = run_program({KVMERGER_BINARY, "inspect", talking_model(), "--json"});
  const Json facts = parse_json(json.out);
  CHECK(facts.at("name").text() == "Toy");
  CHECK(facts.at("architecture").text() == "llama");
  CHECK(facts.at("license").text() == "none");
  CHECK(whole(facts, "layers") == kTalkingLayers);
  CHECK(whole(facts, "kv_heads") == kTalkingHeads);
  CHECK(whole(facts, "heads") == 4);
  CHECK(whole(facts, "head_dim") == 16);
  CHECK(whole(facts, "vocabulary") == 262);
  CHECK(whole(facts, "context") == 4096);
  CHECK(facts.at("fingerprint").text().size() == 32);
  CHECK(facts.at("number_types").text() == "f32 100%");
  const int64_t metadata = 3 * 4;  // position, bias and mass of a row
  CHECK(whole(facts.at("kv_bytes_per_token"), "f16") == kAllHeads * (2 * 16 * 2 + metadata));
  CHECK(whole(facts.at("kv_bytes_per_token"), "f32") == kAllHeads * (2 * 16 * 4 + metadata));
  CHECK(facts.at("chat_template").text().find("im_start") != std::string::npos);
  const Outcome text = run_program({KVMERGER_BINARY, "inspect", talking_model(), "-v"});
  CHECK(text.code == 0);
  CHECK(text.out.find("4 query, 2 KV") != std::string::npos);
  CHECK(text.out.find("add_generation_prompt") != std::string::npos);
}

}  // namespace kvmerger::test
