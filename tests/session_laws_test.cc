// Laws of a session, on toy models: another way to the same state gives the same logits.
#include <doctest/doctest.h>
#include <gguf.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "engine/session.h"
#include "kv/snapshot.h"
#include "measures.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kVocabulary = 96;

std::vector<Token> random_tokens(uint32_t count, uint64_t seed) {
  return test::random_tokens(count, kVocabulary, seed);
}

test::ToyParams toy_params() {
  test::ToyParams params;
  params.n_layer = 5;
  params.n_head = 6;
  params.n_head_kv = 2;
  params.n_embd = 96;
  params.n_vocab = kVocabulary;
  return params;
}

std::shared_ptr<const model::Model> toy() {
  static const test::ToyModel file(toy_params());
  static const auto model = std::make_shared<const model::Model>(file.path());
  return model;
}

// The same with keys in one layer that are no numbers, of which no policy can make a plan.
std::shared_ptr<const model::Model> toy_with_nan_keys(uint32_t layer) {
  const test::ToyModel file(toy_params());
  gguf_context* gguf = gguf_init_from_file(file.path().c_str(), {.no_alloc = true, .ctx = nullptr});
  const int64_t id = gguf_find_tensor(gguf, cat("blk.", layer, ".attn_k.weight").c_str());
  const size_t at = gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, id);
  const std::vector<float> values(gguf_get_tensor_size(gguf, id) / sizeof(float), NAN);
  gguf_free(gguf);
  std::fstream stream(file.path(), std::ios::binary | std::ios::in | std::ios::out);
  stream.seekp(static_cast<std::streamoff>(at));
  stream.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float)));
  stream.close();
  return std::make_shared<const model::Model>(file.path());
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

TEST_CASE("a reading that runs out of memory leaves whole batches, and can go on") {
  const std::vector<Token> tokens = random_tokens(600, 10);
  SessionOptions small = exact();
  small.batch = 100;
  Session session(toy(), small), direct(toy(), small);
  session.extend(std::span(tokens).first(200));
  const size_t used = session.bytes().used;
  session.set_limit_for_test(used + used / 2);  // 300 tokens
  CHECK_THROWS_AS(session.extend(std::span(tokens).subspan(200)), Error);
  CHECK(session.tokens().size() == 300);
  CHECK(session.rows() == 10 * 300);
  CHECK(session.logits().empty());  // of whole batches but the last nobody asked for them
  session.set_limit_for_test(SIZE_MAX);
  session.extend(std::span(tokens).subspan(300));
  direct.extend(tokens);
  CHECK(nmse(copy(session.logits()), copy(direct.logits())) < 1e-10);
}

TEST_CASE("after an interruption the logits before are not those behind the last token, and no room is held") {
  Session session(toy(), options());
  session.extend(random_tokens(100, 1));
  const size_t used = session.bytes().used;
  RunHooks hooks;
  hooks.cancelled = [] { return true; };
  CHECK_THROWS_AS(session.extend(random_tokens(100, 2), false, hooks), Interrupted);
  CHECK(session.tokens().size() == 100);
  CHECK(session.logits().empty());
  CHECK(session.bytes().used == used);
}

TEST_CASE("a token that the model has no weights for is refused and changes nothing") {
  Session session(toy(), options());
  session.extend(random_tokens(20, 1));
  const std::vector<float> before = copy(session.logits());
  for (const Token token : {-1, static_cast<Token>(kVocabulary), INT32_MAX, INT32_MIN}) {
    const std::vector<Token> tokens{1, token, 2};
    CHECK_THROWS_WITH_AS(session.extend(tokens), doctest::Contains(std::to_string(token).c_str()), Error);
    CHECK_THROWS_AS(session.sync(tokens), Error);
    CHECK_THROWS_AS(session.score(tokens, [](uint32_t, std::span<const float>) {}), Error);
  }
  CHECK(session.tokens().size() == 20);
  CHECK(session.rows() == 200);
  CHECK(copy(session.logits()) == before);
}

TEST_CASE("a session of one token") {
  SessionOptions one = exact();
  one.context = one.batch = 1;
  Session session(toy(), one), other(toy(), exact());
  session.extend(random_tokens(1, 1));
  other.extend(random_tokens(1, 1));
  CHECK(copy(session.logits()) == copy(other.logits()));
  CHECK_THROWS_AS(session.extend(random_tokens(1, 1)), Error);
}

TEST_CASE("batches of one token and of exactly the prompt") {
  const std::vector<Token> tokens = random_tokens(64, 13);
  std::vector<std::vector<float>> logits;
  for (const uint32_t batch : {1U, 32U, 63U, 64U, 65U}) {
    for (const bool record : {false, true}) {
      SessionOptions some = exact();
      some.batch = batch;
      some.needs = Compactor(spec("h2o", "50%")).needs();
      Session session(toy(), some);
      session.extend(tokens, record);
      logits.push_back(copy(session.logits()));
    }
  }
  for (const std::vector<float>& other : logits) CHECK(nmse(other, logits[0]) < 1e-10);
}

TEST_CASE("scoring leaves the logits behind the last token") {
  const std::vector<Token> tokens = random_tokens(50, 12);
  Session scored(toy(), exact()), read(toy(), exact());
  scored.extend(std::span(tokens).first(10));
  scored.score(std::span(tokens).subspan(10), [](uint32_t, std::span<const float>) {});
  read.extend(tokens);
  CHECK(nmse(copy(scored.logits()), copy(read.logits())) < 1e-10);
}

TEST_CASE("the same text again costs nothing, also behind a compaction") {
  const Compactor compactor(spec("streaming_llm", "35%"));
  const std::vector<Token> text = random_tokens(300, 7);
  Session session(toy(), options());
  session.extend(text);
  const std::vector<float> before = copy(session.logits());
  session.compact(compactor);
  const uint64_t rows = session.rows();
  const Session::Synced synced = session.sync(text);
  CHECK(synced.reused == 300);
  CHECK(synced.evaluated == 0);
  CHECK_FALSE(synced.rebuilt);
  CHECK(session.rows() == rows);
  CHECK(copy(session.logits()) == before);
}

TEST_CASE("a text that does not fit leaves what is there") {
  SessionOptions small = options();
  small.context = 100;
  Session session(toy(), small);
  session.extend(random_tokens(90, 1));
  CHECK_THROWS_AS(session.sync(random_tokens(101, 2)), Error);
  CHECK(session.tokens() == random_tokens(90, 1));
  CHECK(session.rows() == 900);
}

TEST_CASE("a compaction that fails half way leaves a session that can be used on") {
  const Compactor compactor(spec("kvmerger", "35%"));
  const auto model = toy_with_nan_keys(3);
  SessionOptions with_needs = exact();
  with_needs.needs = compactor.needs();
  Session session(model, with_needs);
  session.extend(random_tokens(300, 1), true);
  CHECK_THROWS_AS(session.compact(compactor), Error);
  REQUIRE(session.rows() < 10 * 300);  // some layers were done
  const Session::Synced synced = session.sync(random_tokens(50, 2));
  CHECK(synced.rebuilt);
  CHECK(session.rows() == 10 * 50);
}

TEST_CASE("a snapshot with a cache of another shape is refused") {
  const TemporaryFile file;
  kv::StoreShape shape;
  shape.layers = 5;
  shape.heads = 2;
  shape.head_dim = 32;  // the model's is 16
  const model::ModelFacts& facts = toy()->facts();
  kv::write_snapshot(file.path, {facts.fingerprint, facts.name, "{}", {}}, kv::Store(shape));
  std::string about;
  CHECK_THROWS_WITH_AS(Session::load(file.path, toy(), options(), &about), doctest::Contains("5 layers x 2 heads x 32"),
                       Error);
}

TEST_CASE("a snapshot that is longer than the context is refused") {
  const TemporaryFile file;
  Session session(toy(), options());
  session.extend(random_tokens(60, 8));
  session.save(file.path, "{}");
  SessionOptions small = options();
  small.context = 59;
  CHECK_THROWS_WITH_AS(Session::load(file.path, toy(), small, nullptr), doctest::Contains("60 tokens"), Error);
  small.context = 60;
  CHECK(Session::load(file.path, toy(), small, nullptr)->logits().empty());
}

TEST_CASE("the time that statistics take is counted while they are recorded") {
  SessionOptions with_needs = options();
  with_needs.needs = Compactor(spec("h2o", "35%")).needs();
  Session session(toy(), with_needs);
  session.extend(random_tokens(200, 1));
  CHECK(session.statistics_seconds() == 0);
  const auto start = std::chrono::steady_clock::now();
  session.extend(random_tokens(200, 2), true);
  const std::chrono::duration<double> all = std::chrono::steady_clock::now() - start;
  const double seconds = session.statistics_seconds();
  CHECK(seconds > 0);
  CHECK(seconds < all.count());
  session.extend(random_tokens(200, 3));
  CHECK(session.statistics_seconds() == seconds);
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
