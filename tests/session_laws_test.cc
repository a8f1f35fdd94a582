// Laws of a session, on toy models: another way to the same state gives the same logits.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "core/error.h"
#include "engine/session.h"
#include "measures.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kVocabulary = 96;

std::vector<Token> random_tokens(uint32_t count, uint64_t seed) {
  return test::random_tokens(count, kVocabulary, seed);
}

std::shared_ptr<const model::Model> toy() {
  test::ToyParams params;
  params.n_layer = 5;
  params.n_head = 6;
  params.n_head_kv = 2;
  params.n_embd = 96;
  params.n_vocab = kVocabulary;
  static const test::ToyModel file(params);
  static const auto model = std::make_shared<const model::Model>(file.path());
  return model;
}

SessionOptions options() {
  SessionOptions options;
  options.context = 2048;
  options.threads = 1;  // small work: a second thread would only wait
  return options;
}

SessionOptions exact() {
  SessionOptions options = engine::options();
  options.key_type = options.value_type = kernels::RowType::kF32;
  return options;
}

using test::nmse;

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

CompactionSpec spec(const std::string& policy, const std::string& budget) {
  CompactionSpec spec;
  spec.policy = policy;
  spec.budget = budget;
  return spec;
}

// Reads tokens, compacts, and returns the logits behind `more` tokens read afterwards.
std::vector<float> compacted_logits(const CompactionSpec& spec, SessionOptions options, uint64_t* rows = nullptr) {
  const Compactor compactor(spec);
  options.needs = compactor.needs();
  Session session(toy(), options);
  session.extend(random_tokens(600, 1), true);
  session.compact(compactor);
  session.extend(random_tokens(20, 2));
  if (rows) *rows = session.rows();
  return copy(session.logits());
}

struct TemporaryFile {
  std::string path = "/tmp/kvmerger-session-test-" + std::to_string(getpid());
  ~TemporaryFile() { std::remove(path.c_str()); }
};

}  // namespace

TEST_CASE("reading in batches equals reading at once") {
  const std::vector<Token> tokens = random_tokens(700, 3);
  SessionOptions whole = exact(), small = exact();
  whole.batch = 1024;
  small.batch = 37;
  Session one(toy(), whole), many(toy(), small);
  one.extend(tokens);
  many.extend(tokens);
  CHECK(nmse(copy(many.logits()), copy(one.logits())) < 1e-10);
  CHECK(many.rows() == one.rows());
}

TEST_CASE("token by token equals reading at once") {
  const std::vector<Token> tokens = random_tokens(300, 4);
  Session one(toy(), exact()), many(toy(), exact());
  one.extend(tokens);
  for (const Token token : tokens) many.extend(std::vector<Token>{token});
  CHECK(nmse(copy(many.logits()), copy(one.logits())) < 1e-10);
}

TEST_CASE("results do not depend on the number of threads") {
  for (const std::string policy : {"none", "kvmerger", "h2o", "cam", "snapkv", "streaming_llm"}) {
    CAPTURE(policy);
    SessionOptions one = options(), three = options();
    one.threads = 1;
    three.threads = 3;
    const CompactionSpec chosen = spec(policy, policy == "none" ? "" : "35%");
    CHECK(compacted_logits(chosen, one) == compacted_logits(chosen, three));
    CHECK(compacted_logits(chosen, one) == compacted_logits(chosen, one));
  }
}

TEST_CASE("a policy with a budget of everything is the full cache") {
  const std::vector<float> full = compacted_logits(spec("none", ""), options());
  for (const policy::Entry& entry : policy::all()) {
    if (!entry.make()->compresses()) continue;
    CAPTURE(entry.name);
    // Recording statistics goes through other sums, so equality is numerical.
    CHECK(nmse(compacted_logits(spec(entry.name, "100%"), options()), full) < 1e-6);
  }
}

TEST_CASE("every policy holds its budget, and the logits stay finite") {
  for (const policy::Entry& entry : policy::all()) {
    if (!entry.make()->compresses()) continue;
    for (const std::string budget : {"50%", "35%", "10%", "48", "1"}) {
      CAPTURE(entry.name);
      CAPTURE(budget);
      const Compactor compactor(spec(entry.name, budget));
      SessionOptions with_needs = options();
      with_needs.needs = compactor.needs();
      Session session(toy(), with_needs);
      session.extend(random_tokens(600, 1), true);
      const CompactionReport report = session.compact(compactor);
      const budget::Size size = budget::parse_size(budget);
      const uint64_t heads = 10, allowed = budget::total_rows(size, std::vector<uint32_t>(heads, 600), 1);
      CHECK(report.rows_before == 600 * heads);
      CHECK(report.rows_after == session.rows());
      CHECK(report.rows_after <= std::max(allowed, heads));
      CHECK(report.rows_after >= std::max<uint64_t>(allowed, heads) * 9 / 10);
      session.extend(random_tokens(5, 2));
      for (const float logit : session.logits()) REQUIRE(std::isfinite(logit));
    }
  }
}

TEST_CASE("taking tokens back equals never having read them") {
  const std::vector<Token> tokens = random_tokens(400, 5);
  std::vector<Token> other(tokens.begin(), tokens.begin() + 250);
  const std::vector<Token> tail = random_tokens(30, 6);
  other.insert(other.end(), tail.begin(), tail.end());
  Session there_and_back(toy(), options()), direct(toy(), options());
  there_and_back.extend(tokens);
  const Session::Synced synced = there_and_back.sync(other);
  CHECK(synced.reused >= 250);
  CHECK(synced.reused + synced.evaluated == 280);
  CHECK_FALSE(synced.rebuilt);
  direct.extend(std::span(other).first(synced.reused));
  direct.extend(std::span(other).subspan(synced.reused));
  CHECK(copy(there_and_back.logits()) == copy(direct.logits()));
  CHECK(there_and_back.tokens() == direct.tokens());
  CHECK(there_and_back.bytes().used == direct.bytes().used);
}

TEST_CASE("a compacted cache serves a longer text and is rebuilt for a different one") {
  const Compactor compactor(spec("streaming_llm", "35%"));
  std::vector<Token> text = random_tokens(300, 7);
  Session session(toy(), options());
  session.extend(text);
  session.compact(compactor);
  text.push_back(5);
  const Session::Synced longer = session.sync(text);
  CHECK(longer.reused == 300);
  CHECK_FALSE(longer.rebuilt);
  text[100] ^= 1;
  const Session::Synced changed = session.sync(text);
  CHECK(changed.rebuilt);
  CHECK(changed.reused == 0);
  CHECK(session.rows() == 10 * text.size());
}

TEST_CASE("a snapshot goes on exactly where it was taken") {
  const TemporaryFile file;
  const Compactor compactor(spec("h2o", "35%"));
  SessionOptions with_needs = options();
  with_needs.needs = compactor.needs();
  Session session(toy(), with_needs);
  session.extend(random_tokens(500, 8), true);
  session.compact(compactor);
  session.save(file.path, "{\"note\": 1}");
  std::string about;
  const auto loaded = Session::load(file.path, toy(), options(), &about);
  CHECK(about == "{\"note\": 1}");
  CHECK(loaded->tokens() == session.tokens());
  CHECK(loaded->rows() == session.rows());
  session.extend(random_tokens(9, 9));
  loaded->extend(random_tokens(9, 9));
  CHECK(copy(loaded->logits()) == copy(session.logits()));
}

TEST_CASE("an interrupted reading leaves whole batches, and can go on") {
  const std::vector<Token> tokens = random_tokens(600, 10);
  SessionOptions small = exact();
  small.batch = 100;
  Session session(toy(), small), direct(toy(), small);
  uint32_t batches = 0;
  RunHooks hooks;
  hooks.progress = [&](uint32_t, uint32_t) { ++batches; };
  hooks.cancelled = [&] { return batches == 3; };
  CHECK_THROWS_AS(session.extend(tokens, false, hooks), Interrupted);
  CHECK(session.tokens().size() == 300);
  CHECK(session.rows() == 10 * 300);
  session.extend(std::span(tokens).subspan(300));
  direct.extend(tokens);
  CHECK(nmse(copy(session.logits()), copy(direct.logits())) < 1e-10);
}

TEST_CASE("a text longer than the context is refused with both counts") {
  SessionOptions small = options();
  small.context = 100;
  Session session(toy(), small);
  CHECK_THROWS_WITH_AS(session.extend(random_tokens(101, 11)), doctest::Contains("101"), Error);
  CHECK_THROWS_WITH_AS(session.extend(random_tokens(101, 11)), doctest::Contains("100"), Error);
  CHECK(session.rows() == 0);
}

TEST_CASE("scoring gives at every position what reading gives behind it") {
  const std::vector<Token> tokens = random_tokens(90, 12);
  SessionOptions small = exact();
  small.batch = 40;
  Session scored(toy(), small), read(toy(), small);
  std::vector<std::vector<float>> logits;
  scored.score(tokens, [&](uint32_t index, std::span<const float> row) {
    CHECK(index == logits.size());
    logits.push_back(copy(row));
  });
  REQUIRE(logits.size() == tokens.size());
  for (size_t index = 0; index < tokens.size(); ++index) {
    read.extend(std::vector<Token>{tokens[index]});
    CHECK(nmse(logits[index], copy(read.logits())) < 1e-10);
  }
}

}  // namespace kvmerger::engine
