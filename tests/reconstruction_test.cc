// The reconstruction pass against attention written out, and sessions that fork and go back.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/error.h"
#include "engine/session.h"
#include "literal_port.h"
#include "measures.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kVocabulary = 96, kLayers = 3, kHeads = 2;

std::vector<Token> random_tokens(uint32_t count, uint64_t seed) {
  return test::random_tokens(count, kVocabulary, seed);
}

std::shared_ptr<const model::Model> toy() {
  test::ToyParams params;
  params.n_layer = kLayers;
  params.n_head = 6;
  params.n_head_kv = kHeads;
  params.n_embd = 96;
  params.n_vocab = kVocabulary;
  static const test::ToyModel file(params);
  static const auto model = std::make_shared<const model::Model>(file.path());
  return model;
}

SessionOptions options() {
  SessionOptions options;
  options.context = 2048;
  options.threads = 1;
  options.batch = 100;
  options.key_type = options.value_type = kernels::RowType::kF32;
  options.needs.reconstruction = true;
  options.repeat_prompt = random_tokens(7, 99);
  return options;
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

using Scores = std::vector<std::vector<double>>;  // [layers * KV heads][rows]

Scores found(const Session& session) {
  Scores scores;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t head = 0; head < kHeads; ++head) {
      const std::vector<float> rows = session.reconstruction(layer, head);
      scores.emplace_back(rows.begin(), rows.end());
    }
  }
  return scores;
}

// The scores of rows begin .. end while they are repeated behind `text`.
void repeat(const std::vector<Token>& text, size_t begin, size_t end, Scores& scores) {
  test::LiteralPort literal(*toy());
  literal.read(text);
  std::vector<Token> repeated = options().repeat_prompt;
  repeated.insert(repeated.end(), text.begin() + static_cast<std::ptrdiff_t>(begin),
                  text.begin() + static_cast<std::ptrdiff_t>(end));
  literal.read(repeated);
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (uint32_t head = 0; head < kHeads; ++head) {
      for (size_t row = begin; row < end; ++row) {
        scores[layer * kHeads + head][row] = literal.layer(layer).most[head][row];
      }
    }
  }
}

Scores no_scores(size_t rows) { return Scores(size_t{kLayers} * kHeads, std::vector<double>(rows)); }

void check_same(const Scores& left, const Scores& right) {
  REQUIRE(left.size() == right.size());
  for (size_t head = 0; head < left.size(); ++head) {
    REQUIRE(left[head].size() == right[head].size());
    for (size_t row = 0; row < left[head].size(); ++row) {
      CHECK(left[head][row] == doctest::Approx(right[head][row]).epsilon(1e-3));
    }
  }
}

// Runs the pass; returns how often it said that it had done a chunk.
uint32_t reconstruct(Session& session) {
  uint32_t chunks = 0, last = 0, all = 0;
  session.reconstruct({[&](uint32_t done, uint32_t total) { ++chunks, last = done, all = total; }, nullptr});
  CHECK(last == all);
  return chunks;
}

Compactor streaming(const std::string& budget) {
  CompactionSpec spec;
  spec.policy = "streaming_llm";
  spec.budget = budget;
  return Compactor(spec);
}

}  // namespace

TEST_CASE("the literal port and the session give the same logits") {
  const std::vector<Token> text = random_tokens(150, 1);
  test::LiteralPort literal(*toy());
  literal.read(text);
  Session session(toy(), options());
  session.extend(text);
  CHECK(test::nmse(copy(session.logits()), literal.logits()) < 1e-9);
}

TEST_CASE("scores are the largest attention that a row of a chunk gets while the chunk is repeated") {
  const std::vector<Token> text = random_tokens(230, 2);
  Scores expected = no_scores(230);
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, 100}, {100, 200}, {200, 230}}) {
    repeat(text, begin, end, expected);
  }
  Session session(toy(), options());
  session.extend(text);
  CHECK(reconstruct(session) == 3);
  check_same(found(session), expected);
}

TEST_CASE("without words that ask for it, and with more threads: scores as literally, not a bit different") {
  const std::vector<Token> text = random_tokens(120, 3);
  std::vector<Scores> all;
  for (const uint32_t threads : {1U, 2U, 3U}) {
    SessionOptions bare = options();
    bare.repeat_prompt.clear();
    bare.threads = threads;
    Session session(toy(), bare);
    session.extend(text);
    session.reconstruct();
    all.push_back(found(session));
  }
  CHECK(all[1] == all[0]);
  CHECK(all[2] == all[0]);
  test::LiteralPort literal(*toy());
  literal.read(text);
  literal.read(std::span(text).first(100));
  for (uint32_t row = 0; row < 100; ++row) {
    CHECK(all[0][3][row] == doctest::Approx(literal.layer(1).most[1][row]).epsilon(1e-3));
  }
}

TEST_CASE("a reconstruction leaves rows, tokens, memory and all later logits as they were, bit for bit") {
  const std::vector<Token> text = random_tokens(250, 4), more = random_tokens(130, 5);
  Session plain(toy(), options()), repeated(toy(), options());
  for (Session* session : {&plain, &repeated}) session->extend(text, true);
  repeated.reconstruct();
  CHECK(repeated.tokens() == text);
  CHECK(repeated.rows() == plain.rows());
  CHECK(repeated.bytes().used == plain.bytes().used);
  CHECK(copy(repeated.logits()) == copy(plain.logits()));
  for (Session* session : {&plain, &repeated}) {
    session->extend(more);
    session->extend(std::vector<Token>{1});
  }
  CHECK(copy(repeated.logits()) == copy(plain.logits()));
}

TEST_CASE("a second reconstruction has nothing to do, behind more text it repeats that alone") {
  std::vector<Token> text = random_tokens(100, 6);
  Scores expected = no_scores(160);
  repeat(text, 0, 100, expected);
  Session session(toy(), options());
  session.extend(text);
  CHECK(reconstruct(session) == 1);
  const Scores first = found(session);
  CHECK(reconstruct(session) == 0);
  CHECK(found(session) == first);
  const std::vector<Token> more = random_tokens(60, 7);
  text.insert(text.end(), more.begin(), more.end());
  session.extend(more);
  CHECK(reconstruct(session) == 1);
  repeat(text, 100, 160, expected);
  check_same(found(session), expected);
}

TEST_CASE("text that took the place of other text is repeated too") {
  std::vector<Token> text = random_tokens(100, 8);
  Scores expected = no_scores(160);
  repeat(text, 0, 100, expected);
  const std::vector<Token> wrong = random_tokens(80, 9), right = random_tokens(60, 10);
  std::vector<Token> all = text;
  all.insert(all.end(), right.begin(), right.end());
  repeat(all, 100, 160, expected);
  for (const bool by_sync : {false, true}) {
    CAPTURE(by_sync);
    Session session(toy(), options());
    session.extend(text);
    session.reconstruct();
    session.extend(wrong);
    session.reconstruct();
    if (by_sync) {
      session.sync(all);
    } else {
      session.rewind(100);
      session.extend(right);
    }
    CHECK(reconstruct(session) == 1);
    check_same(found(session), expected);
  }
}

TEST_CASE("rows that were compacted are not repeated again") {
  for (const bool words : {true, false}) {
    SessionOptions chosen = options();
    if (!words) chosen.repeat_prompt.clear();
    Session session(toy(), chosen);
    session.extend(random_tokens(150, 11), true);
    session.compact(streaming("50%"));
    const Scores before = found(session);
    CHECK(reconstruct(session) == 0);
    CHECK(found(session) == before);
    session.extend(random_tokens(40, 12));
    CHECK(reconstruct(session) == 1);
    const Scores after = found(session);
    for (size_t head = 0; head < after.size(); ++head) {
      REQUIRE(after[head].size() == 75 + 40);
      for (size_t row = 0; row < after[head].size(); ++row) CHECK((after[head][row] > 0) == (row >= 75));
    }
  }
}

TEST_CASE("a reconstruction that is interrupted can be finished, and changes no logits") {
  const std::vector<Token> text = random_tokens(250, 13);
  Session plain(toy(), options()), cut(toy(), options());
  for (Session* session : {&plain, &cut}) session->extend(text);
  bool stop = false;
  const RunHooks hooks{[&](uint32_t, uint32_t) { stop = true; }, [&] { return stop; }};
  CHECK_THROWS_AS(cut.reconstruct(hooks), Interrupted);
  CHECK(cut.tokens() == text);
  CHECK(cut.rows() == plain.rows());
  CHECK(cut.bytes().used == plain.bytes().used);
  plain.reconstruct();
  CHECK(reconstruct(cut) == 2);
  CHECK(found(cut) == found(plain));
  for (Session* session : {&plain, &cut}) session->extend(random_tokens(20, 14));
  CHECK(copy(cut.logits()) == copy(plain.logits()));
}

namespace {

SessionOptions with_everything() {
  SessionOptions options = engine::options();
  options.needs = {.attn_sum = true, .window = 32, .reconstruction = true, .queries = 3000};  // more than there are
  return options;
}

CompactionSpec spec(const char* policy, const char* heads, const char* fit) {
  CompactionSpec spec;
  spec.policy = policy;
  spec.heads = heads;
  spec.fit = fit;
  spec.budget = "35%";
  return spec;
}

// What a session answers behind more text.
std::vector<float> goes_on(Session& session, uint64_t seed) {
  session.extend(random_tokens(33, seed));
  return copy(session.logits());
}

}  // namespace

TEST_CASE("a fork goes on as its origin would, bit for bit, and neither sees the other") {
  Session origin(toy(), with_everything()), control(toy(), with_everything());
  for (Session* session : {&origin, &control}) session->extend(random_tokens(250, 15), true);
  const std::unique_ptr<Session> fork = origin.fork();
  CHECK(fork->tokens() == origin.tokens());
  CHECK(fork->rows() == origin.rows());
  CHECK(copy(fork->logits()) == copy(origin.logits()));
  const std::vector<float> forked = goes_on(*fork, 16);
  CHECK(origin.tokens().size() == 250);
  CHECK(origin.rows() == control.rows());
  CHECK(goes_on(origin, 16) == forked);
  CHECK(goes_on(control, 16) == forked);
  CHECK(goes_on(*fork, 17) != goes_on(origin, 18));
  CHECK(goes_on(control, 17) == copy(fork->logits()));
}

TEST_CASE("compacting a fork does not change its origin, and gives what compacting the origin gives") {
  for (const char* policy : {"h2o", "snapkv", "kvzip", "expected_attention"}) {
    CAPTURE(policy);
    Session origin(toy(), with_everything()), control(toy(), with_everything());
    for (Session* session : {&origin, &control}) session->extend(random_tokens(250, 19), true);
    const std::unique_ptr<Session> fork = origin.fork();
    const CompactionReport report = fork->compact(Compactor(spec(policy, "document", "ls")));
    CHECK(report.rows_after < origin.rows() / 2);
    CHECK(origin.rows() == 250 * kLayers * kHeads);
    const std::unique_ptr<Session> untouched = origin.fork();
    CHECK(goes_on(*untouched, 20) == goes_on(control, 20));
    const CompactionReport own = origin.compact(Compactor(spec(policy, "document", "ls")));
    CHECK(own.rows == report.rows);
    CHECK(own.errors == report.errors);
    CHECK(goes_on(origin, 21) == goes_on(*fork, 21));
  }
}

TEST_CASE("going back and reading again gives the same logits, and the same compaction") {
  Session session(toy(), with_everything()), direct(toy(), with_everything());
  const std::vector<Token> text = random_tokens(200, 22), more = random_tokens(90, 23);
  for (Session* one : {&session, &direct}) one->extend(text, true);
  session.extend(random_tokens(150, 24), true);
  session.rewind(200);
  CHECK(session.tokens() == text);
  CHECK(session.rows() == direct.rows());
  CHECK(session.bytes().used == direct.bytes().used);
  CHECK(session.logits().empty());
  for (Session* one : {&session, &direct}) one->extend(more, true);
  CHECK(copy(session.logits()) == copy(direct.logits()));
  // What was read and taken back has looked at the rows, so only what needs no statistics is the same.
  const Compactor compactor(spec("expected_attention", "uniform", "ls"));
  CHECK(session.compact(compactor).errors == direct.compact(compactor).errors);
  CHECK(goes_on(session, 25) == goes_on(direct, 25));
}

TEST_CASE("going back behind a compaction is refused and changes nothing") {
  Session session(toy(), options()), control(toy(), options());
  for (Session* one : {&session, &control}) {
    one->extend(random_tokens(200, 26), true);
    one->compact(streaming("50%"));
    one->extend(random_tokens(50, 27));
  }
  CHECK_THROWS_AS(session.rewind(199), Error);
  CHECK(session.tokens().size() == 250);
  CHECK(session.rows() == control.rows());
  CHECK(copy(session.logits()) == copy(control.logits()));
  for (Session* one : {&session, &control}) one->rewind(200);
  CHECK(goes_on(session, 28) == goes_on(control, 28));
}

TEST_CASE("going back to the beginning is a new session") {
  Session session(toy(), options()), fresh(toy(), options());
  session.extend(random_tokens(70, 29));
  session.rewind(0);
  CHECK(session.rows() == 0);
  CHECK(goes_on(session, 30) == goes_on(fresh, 30));
}

}  // namespace kvmerger::engine
