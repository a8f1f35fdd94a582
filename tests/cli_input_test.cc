// The program with input that is wrong: clear words and the right exit code, never a crash, never long work first.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "cli_tools.h"
#include "core/json.h"
#include "core/rng.h"

namespace kvmerger::test {
namespace {

// Runs and expects exit code and words on stderr, and nothing on stdout.
void expect(int code, const std::vector<std::string>& words, const Outcome& outcome) {
  INFO(outcome.err);
  CHECK(outcome.code == code);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.find("error: ") != std::string::npos);
  for (const std::string& word : words) CHECK_MESSAGE(outcome.err.find(word) != std::string::npos, word);
}

Outcome run_with(std::vector<std::string> more) {
  more.insert(more.begin(), {"run", "-p", "Hello", "-n", "2"});
  return kvmerger(more);
}

Outcome run_model(const std::string& model) {
  return run_program({KVMERGER_BINARY, "run", "-m", model, "-p", "Hi", "-n", "2", "-t", "1"});
}

Outcome run_document(const std::string& document) {
  return kvmerger({"run", "-f", document, "-p", "What?", "-n", "2", "--temp", "0"});
}

}  // namespace

TEST_CASE("wrong usage is 2 and points to the help") {
  CHECK(run_program({KVMERGER_BINARY}).code == 2);
  CHECK(run_with({"-n", "x", "-n", "2"}).code == 0);  // the last one counts
  expect(2, {"unknown command 'foo'", "--help"}, run_program({KVMERGER_BINARY, "foo"}));
  expect(2, {"--foo", "kvmerger run --help"}, run_with({"--foo"}));
  expect(2, {"unknown flag '-ngl'"}, run_with({"-ngl", "5"}));
  expect(2, {"--prompt"}, run_program({KVMERGER_BINARY, "run", "-p"}));
  expect(2, {"-p", "-f"}, kvmerger({"run"}));
  expect(2, {"q4_0", "f16", "q8_0"}, run_with({"-ctk", "q4_0"}));
  expect(2, {"--ctx-size"}, run_with({"-c", "-5"}));
  expect(2, {"--ctx-size"}, run_with({"-c", "99999999999999999999"}));
  expect(2, {"--batch-size"}, run_with({"-b", "-1"}));
  expect(2, {"--threads"}, run_program({KVMERGER_BINARY, "run", "-p", "Hello", "-t", "x"}));
  expect(2, {"--seed"}, run_with({"-s", "-2"}));
  expect(2, {"--truncate"}, run_with({"--truncate", "right"}));
  expect(2, {"--kv-when", "prefill"}, run_with({"--kv-when", "never"}));
  expect(2, {"--top-p"}, run_with({"--top-p", "2"}));
  expect(2, {"empty"}, run_with({"-r", ""}));
  expect(2, {"policies"}, run_program({KVMERGER_BINARY, "list", "colours"}));
  expect(2, {"output"}, kvmerger({"compress", "-f", "README.md"}));
  expect(2, {"-f"}, kvmerger({"compress", "-o", "x.kvm"}));
  expect(2, {"-p"}, kvmerger({"ask", "x.kvm"}));
  expect(2, {"snapshot"}, kvmerger({"ask"}));
  expect(2, {"--raw"}, kvmerger({"chat", "--raw"}));
  expect(2, {"stdin"}, kvmerger({"chat", "-f", "-"}));
  expect(2, {"stdin"}, kvmerger({"chat", "-p", "Hello"}));
}

TEST_CASE("policies, budgets and fits that do not exist") {
  const auto with = [](const std::string& flag, const std::string& value) {
    return run_with({"--kv-budget", "50%", flag, value});
  };
  expect(2, {"magic", "kvmerger", "h2o"}, with("--kv-policy", "magic"));
  expect(2, {"h2o", "colour", "recent"}, with("--kv-policy", "h2o:colour=red"));
  expect(2, {"recent=much"}, with("--kv-policy", "h2o:recent=much"));
  expect(2, {"recent=2"}, with("--kv-policy", "h2o:recent=2"));
  expect(2, {"recent"}, with("--kv-policy", "h2o:recent"));
  expect(2, {"uniform"}, with("--kv-heads", "magic"));
  expect(2, {"none"}, with("--kv-fit", "magic"));
  expect(2, {"--kv-budget"}, run_with({"--kv-policy", "h2o"}));
  expect(2, {"none", "--kv-policy"}, run_with({"--kv-policy", "none", "--kv-budget", "50%"}));
  for (const char* budget :
       {"0", "0%", "-5", "-5%", "101%", "abc", "35", "%", "", "1MiB2", "nan%", "0MiB", "1e400MiB"}) {
    CAPTURE(budget);
    const Outcome outcome = run_with({std::string("--kv-budget=") + budget});
    INFO(outcome.err);
    if (std::string(budget) == "35") {
      CHECK(outcome.code == 0);  // 35 rows a head
    } else if (std::string(budget).empty()) {
      CHECK(outcome.code == 2);
    } else {
      expect(2, {"MiB", "%"}, outcome);
    }
  }
  expect(1, {"KiB"}, run_with({"--kv-budget", "1KiB"}));  // less than a page for every head
}

TEST_CASE("models that are missing, cut, or not models") {
  const TemporaryFolder folder;
  expect(1, {folder.path("none.gguf")}, run_model(folder.path("none.gguf")));
  expect(1, {"not a file"}, run_model(folder.path("")));
  expect(1, {"GGUF"}, run_model(folder.file("text.gguf", "This is no model at all, only a text.\n")));
  expect(1, {"GGUF"}, run_model(folder.file("empty.gguf", "")));
  const std::string model = read_file(talking_model());
  for (const size_t bytes :
       {size_t{3}, size_t{4}, size_t{12}, size_t{24}, size_t{500}, size_t{8000}, model.size() / 2, model.size() - 1}) {
    CAPTURE(bytes);
    expect(1, {"cut.gguf"}, run_model(folder.file("cut.gguf", model.substr(0, bytes))));
  }
  const Outcome none =
      run_program({KVMERGER_BINARY, "run", "-p", "Hi"}, {"", {{"XDG_CACHE_HOME", folder.path("nowhere")}}});
  expect(1, {"tools/fetch_model", "make demo", "-m", folder.path("nowhere")}, none);
  expect(1, {"chat template"}, run_program({KVMERGER_BINARY, "chat", "-m", talking_model(false)}));
}

TEST_CASE("a model whose header is damaged anywhere is refused or works, and never crashes") {
  const TemporaryFolder folder;
  const std::string model = read_file(talking_model());
  Rng rng(1);
  uint32_t refused = 0;
  for (uint32_t round = 0; round < 40; ++round) {
    std::string damaged = model;
    const size_t place = round < 10 ? 4 + 3 * round : rng.below(6000);  // the first bytes are counts
    damaged[place] = static_cast<char>(rng.next());
    CAPTURE(place);
    const Outcome outcome = run_model(folder.file("damaged.gguf", damaged));
    INFO(outcome.err);
    CHECK((outcome.code == 0 || outcome.code == 1));
    refused += outcome.code == 1;
    if (outcome.code == 1) CHECK(outcome.err.find("error: ") != std::string::npos);
  }
  CHECK(refused >= 10);
}

TEST_CASE("documents that are no text") {
  const TemporaryFolder folder;
  expect(1, {"none.txt", "No such file"}, run_document(folder.path("none.txt")));
  expect(1, {"folder"}, run_document(folder.path("")));
  expect(1, {"empty"}, run_document(folder.file("empty.txt", "")));
  expect(1, {"empty"}, run_document(folder.file("newline.txt", "\n")));
  expect(1, {"empty"}, kvmerger({"run", "-f", "-"}));
  expect(1, {"NUL", "offset 5", "binary"}, run_document(folder.file("binary.txt", std::string("Hello\0you", 9))));
  const std::string huge = folder.file("huge.txt", "x");
  std::filesystem::resize_file(huge, (uint64_t{1} << 30) + 1);  // a hole: takes no space
  expect(1, {"1 GiB"}, run_document(huge));

  const Outcome broken = run_document(folder.file("broken.txt", "good \xFF bad \xC3\x28 cut \xE2\x82"));
  CHECK(broken.code == 0);
  CHECK(broken.err.find("warning: ") != std::string::npos);
  CHECK(broken.err.find("3 invalid") != std::string::npos);
  CHECK(kvmerger({"run", "-p", "bad \xFF", "-n", "1"}).err.find("1 invalid") != std::string::npos);
  const Outcome marked = run_document(folder.file("marked.txt", "\xEF\xBB\xBFgood"));
  CHECK(marked.out == run_document(folder.file("plain.txt", "good")).out);
}

TEST_CASE("a document longer than the context is refused, or cut when that was asked for") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", story(1000));
  const uint32_t all = kBeforeText + 1000 + 2 + 5 + kBehindText;
  expect(1, {std::to_string(all), "500", "--truncate"}, kvmerger({"run", "-f", document, "-p", "What?", "-c", "500"}));
  const Json whole = report_of({"run", "-f", document, "-p", "What?", "-c", std::to_string(all), "-n", "9"});
  CHECK(whole.at("prompt_tokens").integer() == all);
  CHECK(whole.at("finish_reason").text() == "context");
  for (const char* where : {"middle", "left"}) {
    CAPTURE(where);
    const std::string path = folder.path("report.json");
    const Outcome outcome =
        kvmerger({"run", "-f", document, "-p", "What?", "-c", "500", "-n", "9", "--truncate", where, "--report", path});
    INFO(outcome.err);
    CHECK(outcome.code == 0);
    CHECK(outcome.err.find("warning: ") != std::string::npos);
    const Json report = parse_json(read_file(path));
    CHECK(report.at("prompt_tokens").integer() == 500 - 9);
    CHECK(report.at("truncated").at("tokens").integer() == all - (500 - 9));
    CHECK(report.at("truncated").at("where").text().find(where == std::string("left") ? "tokens 0 to" : "tokens 2") !=
          std::string::npos);
    CHECK(report.at("finish_reason").text() == "length");
  }
  expect(1, {"room for 20"}, kvmerger({"run", "-p", story(100), "-c", "20", "--truncate", "left", "-n", "0"}));
  expect(1, {"500"}, kvmerger({"chat", "-c", "500", "-f", document}, {"What?\n", {}}));
}

TEST_CASE("a context larger than memory costs nothing until it is used") {
  const Json report = report_of({"run", "-p", "Hello", "-n", "2", "-c", "100000000"});
  CHECK(report.at("peak_rss_bytes").integer() < int64_t{1} << 30);
  CHECK(run_with({"-c", "100000000"}).err.find("trained for") != std::string::npos);
}

TEST_CASE("places that cannot be written are found before anything is loaded") {
  const TemporaryFolder folder;
  const std::string missing = folder.path("none.gguf"), document = folder.file("document.txt", "text"),
                    nowhere = folder.path("no/where");
  expect(1, {nowhere, "--report"},
         run_program({KVMERGER_BINARY, "run", "-m", missing, "-p", "Hi", "--report", nowhere}));
  expect(1, {"--report"},
         run_program({KVMERGER_BINARY, "run", "-m", missing, "-p", "Hi", "--report", folder.path("")}));
  expect(1, {nowhere, "--output"},
         run_program({KVMERGER_BINARY, "compress", "-m", missing, "-f", document, "-o", nowhere}));
  expect(1, {"none.gguf"},
         run_program({KVMERGER_BINARY, "compress", "-m", missing, "-f", document, "-o", folder.path("new.kvm")}));
  CHECK(read_file(folder.path("new.kvm")).empty());
  CHECK_FALSE(std::filesystem::exists(folder.path("new.kvm")));
  const std::string old = folder.file("old.json", "kept");
  CHECK(run_program({KVMERGER_BINARY, "run", "-m", missing, "-p", "Hi", "--report", old}).code == 1);
  CHECK(read_file(old) == "kept");
}

TEST_CASE("a closed stdout ends the work with 1") {
  Surroundings closed;
  closed.stdout_closed = true;
  const Outcome outcome = kvmerger({"run", "-p", "Hello", "--ignore-eos", "--temp", "0", "-c", "1000000"}, closed);
  CHECK(outcome.code == 1);
  CHECK(outcome.err.find("stdout was closed") != std::string::npos);
  CHECK(run_program({KVMERGER_BINARY, "list"}, closed).code == 1);
  CHECK(run_program({KVMERGER_BINARY, "inspect", talking_model()}, closed).code == 1);
  CHECK(kvmerger({"chat", "-n", "1"}, {"Hello\n", {}, true}).code == 1);
}

TEST_CASE("an instruction set this machine does not have") {
  const Surroundings wrong{"", {{"KVMERGER_TARGET", "abacus"}}}, plain{"", {{"KVMERGER_TARGET", "scalar"}}};
  expect(1, {"KVMERGER_TARGET", "abacus"}, kvmerger({"run", "-p", "Hello"}, wrong));
  const Outcome outcome = kvmerger({"run", "-p", "Hello", "-n", "2"}, plain);
  CHECK(outcome.code == 0);
  CHECK(outcome.err.find("SCALAR") != std::string::npos);
}

TEST_CASE("snapshots that are missing, damaged or of another model") {
  const TemporaryFolder folder;
  const std::string snapshot = folder.path("document.kvm");
  REQUIRE(kvmerger({"compress", "-f", folder.file("document.txt", story(300)), "-o", snapshot, "--kv-budget", "50%"})
              .code == 0);
  const auto ask = [&](const std::string& path) { return kvmerger({"ask", path, "-p", "What?", "-n", "2"}); };
  CHECK(ask(snapshot).code == 0);
  expect(1, {"none.kvm"}, ask(folder.path("none.kvm")));
  expect(1, {"text.kvm"}, ask(folder.file("text.kvm", "no snapshot")));
  const std::string bytes = read_file(snapshot);
  for (const size_t size : {size_t{0}, size_t{10}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    CAPTURE(size);
    expect(1, {"cut.kvm"}, ask(folder.file("cut.kvm", bytes.substr(0, size))));
  }
  std::string damaged = bytes;
  damaged[bytes.size() - 100] ^= 1;
  expect(1, {"damaged"}, ask(folder.file("damaged.kvm", damaged)));
  const Outcome other = run_program({KVMERGER_BINARY, "ask", snapshot, "-p", "What?", "-m", talking_model(false)});
  expect(1, {"model"}, other);
  expect(1, {"context"}, kvmerger({"ask", snapshot, "-p", "What?", "-c", "100"}));
}

TEST_CASE("Ctrl-C while reading stops within a batch, the report says so") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", story(60'000)), path = folder.path("report.json");
  Program program(command_line({"run", "-f", document, "-c", "1000000", "--report", path}));
  REQUIRE(program.wait_for("cache ", true));
  usleep(50'000);
  program.signal(SIGINT);
  const Outcome outcome = program.wait();
  INFO(outcome.err);
  CHECK(outcome.code == 130);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.find("interrupted") != std::string::npos);
  const Json report = parse_json(read_file(path));
  CHECK(report.at("finish_reason").text() == "interrupted");
  CHECK(report.at("prompt_tokens").integer() > 60'000);
  CHECK(report.at("read_tokens").integer() < 60'000);
  CHECK(report.at("generated_tokens").integer() == 0);
}

TEST_CASE("Ctrl-C while answering keeps what was said, no snapshot is left by an interrupted compress") {
  const TemporaryFolder folder;
  const std::string path = folder.path("report.json");
  const std::vector<std::string> endless{"run", "-p", "Hello", "--ignore-eos", "-c", "1000000", "--report", path};
  Program program(command_line(endless));
  REQUIRE(program.wait_for("\xEF\xBF\xBD", false));  // noise is rarely valid UTF-8
  program.signal(SIGINT);
  const Outcome outcome = program.wait();
  CHECK(outcome.code == 130);
  const Json report = parse_json(read_file(path));
  CHECK(report.at("finish_reason").text() == "interrupted");
  CHECK(outcome.out.starts_with(report.at("text").text()));
  CHECK(report.at("generated_tokens").integer() > 0);

  const std::string document = folder.file("document.txt", story(60'000)), snapshot = folder.path("document.kvm");
  Program compress(command_line({"compress", "-f", document, "-c", "1000000", "-o", snapshot}));
  REQUIRE(compress.wait_for("cache ", true));
  compress.signal(SIGTERM);
  CHECK(compress.wait().code == 143);
  CHECK_FALSE(std::filesystem::exists(snapshot));
}

TEST_CASE("the second Ctrl-C ends the program at once") {
  const TemporaryFolder folder;
  const std::string document = folder.file("document.txt", story(40'000));
  Program program(command_line({"run", "-f", document, "-c", "1000000", "-b", "65536"}));  // one long batch
  REQUIRE(program.wait_for("cache ", true));
  usleep(500'000);
  program.signal(SIGINT);
  usleep(50'000);
  program.signal(SIGINT);
  CHECK(program.wait().code == -SIGINT);
}

}  // namespace kvmerger::test
