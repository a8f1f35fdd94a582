// Keeping a session within its budget while it reads and generates: rows, bytes and positions at every moment.
#include "engine/keeper.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "core/error.h"
#include "engine/catalog.h"
#include "engine/generate.h"
#include "engine/methods.h"
#include "kv/snapshot.h"
#include "measures.h"
#include "policy/policy.h"
#include "talking_model.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kVocabulary = 96, kLayers = 2, kHeads = 2, kAllHeads = kLayers * kHeads, kHeadDim = 16;
constexpr uint32_t kBatch = 128;

std::vector<Token> random_tokens(uint32_t count, uint64_t seed) {
  return test::random_tokens(count, kVocabulary, seed);
}

std::shared_ptr<const model::Model> toy() {
  test::ToyParams params;
  params.n_layer = kLayers;
  params.n_head_kv = kHeads;
  params.n_vocab = kVocabulary;
  static const test::ToyModel file(params);
  static const auto model = std::make_shared<const model::Model>(file.path());
  return model;
}

// A profile in which later heads need more.
std::shared_ptr<const budget::Profile> profile() {
  auto profile = std::make_shared<budget::Profile>();
  profile->layers = kLayers;
  profile->heads = kHeads;
  for (uint32_t head = 0; head < kAllHeads; ++head) {
    std::vector<float> scores;
    for (int row = 0; row < 500; ++row) scores.push_back(static_cast<float>(std::exp(-row / (20.0 * (1 + head)))));
    profile->quantiles.push_back(budget::quantiles_of(scores));
  }
  return profile;
}

Compactor compactor(const std::string& method, const std::string& budget) {
  CompactionSpec spec = method_spec(method);
  spec.budget = budget;
  Compactor made(spec);
  if (made.needs_profile()) made.use_profile(profile());
  return made;
}

SessionOptions options(const Compactor& compactor) {
  SessionOptions options;
  options.context = 8192;
  options.threads = 1;  // small work: a second thread would only wait
  options.batch = kBatch;
  options.needs = compactor.needs();
  options.repeat_prompt = random_tokens(5, 99);
  return options;
}

// Pages of 16 rows: K and V of f16, position, bias, mass and the statistics, all of four bytes.
size_t page_bytes(const Compactor& compactor) {
  const policy::Needs needs = compactor.needs();
  const size_t statistics = size_t{needs.attn_sum} + (needs.window > 0) + needs.reconstruction;
  return 16 * (2 * kHeadDim * 2 + (3 + statistics) * 4);
}

// Bytes that `rows` of each head may take: whole pages, and one page a head more for heads that are not alike.
size_t bytes_of(const Compactor& compactor, uint64_t rows, uint32_t heads = kAllHeads) {
  return heads * ((rows + 15) / 16 + 1) * page_bytes(compactor);
}

struct Head {
  std::vector<int32_t> positions;
  std::vector<float> keys;  // [rows, head_dim]
};

// [layers * heads] what the cache holds, by way of a file.
std::vector<Head> contents(const Session& session) {
  const std::string path = "/tmp/kvmerger-keeper-test-" + std::to_string(getpid());
  session.save(path, "{}");
  const kv::Snapshot snapshot = kv::read_snapshot(path, "");
  std::remove(path.c_str());
  std::vector<Head> heads;
  for (uint32_t layer = 0; layer < snapshot.store.shape().layers; ++layer) {
    const kv::Store::LayerData data = snapshot.store.view(layer);
    for (const kv::HeadView& head : data.view.heads) {
      heads.push_back(
          {{head.pos.begin(), head.pos.end()}, {head.key.data, head.key.data + size_t{head.key.count} * head.key.dim}});
    }
  }
  return heads;
}

bool finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

// Generated tokens as they come, without a sampler.
void add_all(Keeper& keeper, Session& session, const std::vector<Token>& tokens) {
  for (const Token token : tokens) keeper.add(session, token, {});
}

std::vector<std::string> methods_and_policies() {
  std::vector<std::string> names;
  for (const Method& method : methods()) names.emplace_back(method.name);
  for (const policy::Entry& entry : policy::all()) {
    if (entry.make()->compresses()) names.emplace_back(entry.name);
  }
  return names;
}

}  // namespace

TEST_CASE("moments by name, joined by plus or comma") {
  const auto is = [](const char* text, bool prefill, bool stream, bool decode) {
    CAPTURE(text);
    const Moments moments = parse_moments(text);
    CHECK(moments.prefill == prefill);
    CHECK(moments.stream == stream);
    CHECK(moments.decode == decode);
  };
  is("prefill", true, false, false);
  is("stream", false, true, false);
  is("decode", false, false, true);
  is("stream+decode", false, true, true);
  is("decode,prefill", true, false, true);
  is("prefill+stream,decode", true, true, true);
  is("decode+decode", false, false, true);
  for (const char* wrong :
       {"", "+", "never", "prefill+", "+prefill", "prefill++decode", "Prefill", "prefill decode", "stream:x"}) {
    CAPTURE(wrong);
    CHECK_THROWS_WITH_AS(parse_moments(wrong), doctest::Contains("prefill, stream, decode"), UsageError);
  }
  for (const CatalogAxis& axis : catalog()) {
    if (axis.name == "moments") CHECK(axis.entries.size() == moments().size());
  }
}

TEST_CASE("stream and decode need a budget to keep to") {
  const Compactor own_choice = compactor("kvmerger:epsilon=0.75", ""), none = compactor("none", "");
  CHECK_NOTHROW(Keeper(own_choice, parse_moments("prefill")));
  CHECK_NOTHROW(Keeper(none, parse_moments("prefill")));
  for (const Compactor* without : {&own_choice, &none}) {
    for (const char* when : {"stream", "decode", "prefill+decode"}) {
      CHECK_THROWS_WITH_AS(Keeper(*without, parse_moments(when)), doctest::Contains("--kv-budget"), UsageError);
    }
  }
}

TEST_CASE("streaming: never more rows than budget and batch, and never more bytes") {
  constexpr uint32_t kTokens = 1500;
  for (const char* method : {"h2o", "streaming_llm", "kvmerger", "snapkv", "look_m", "default"}) {
    for (const uint32_t rows : {16U, 100U, 400U}) {
      CAPTURE(method);
      CAPTURE(rows);
      const Compactor chosen = compactor(method, std::to_string(rows));
      Session session(toy(), options(chosen));
      Keeper keeper(chosen, parse_moments("stream"));
      uint32_t batches = 0;
      const RunHooks hooks{[&](uint32_t done, uint32_t total) {
                             ++batches;
                             CHECK(total == kTokens);
                             CHECK(done == session.tokens().size());
                             CHECK(done == 125 * batches);  // 12 batches of one size, not 11 and a rest
                             CHECK(session.rows() <= kAllHeads * (rows + kBatch));
                             CHECK(session.bytes().used <= bytes_of(chosen, rows + kBatch));
                           },
                           nullptr};
      keeper.read(session, random_tokens(kTokens, 1), hooks);
      CHECK(batches == (kTokens + kBatch - 1) / kBatch);
      CHECK(session.rows() <= kAllHeads * rows);
      CHECK(session.bytes().used <= bytes_of(chosen, rows));
      // While a layer is rewritten both its old and its new rows are there; one layer may have most of the budget.
      const uint64_t rewritten = method == std::string("default") ? kLayers * rows : rows;
      CHECK(session.bytes().peak <= bytes_of(chosen, rows + kBatch) + bytes_of(chosen, rewritten, kHeads));
      CHECK(session.tokens() == random_tokens(kTokens, 1));
      CHECK(keeper.report()->rows_after == session.rows());
    }
  }
}

TEST_CASE("what has to repeat the text needs room for that batch too, and no more") {
  for (const char* method : {"kvzip", "document"}) {
    CAPTURE(method);
    const Compactor chosen = compactor(method, "100");
    Session session(toy(), options(chosen));
    Keeper keeper(chosen, parse_moments("stream"));
    keeper.read(session, random_tokens(1000, 1), {});
    CHECK(session.rows() <= kAllHeads * 100);
    CHECK(session.bytes().peak <= bytes_of(chosen, 100 + 2 * kBatch + 5) + bytes_of(chosen, 2 * 100, kHeads));
  }
}

TEST_CASE("a text whose full cache does not fit the memory can be streamed") {
  const Compactor chosen = compactor("h2o", "64");
  const auto limited = [&](const char* when) {
    Session session(toy(), options(chosen));
    session.set_limit_for_test(bytes_of(chosen, 64 + kBatch) + bytes_of(chosen, 64, kHeads));
    Keeper(chosen, parse_moments(when)).read(session, random_tokens(2000, 1), {});
    return session.rows();
  };
  CHECK(limited("stream") == kAllHeads * 64);
  CHECK_THROWS_AS(limited("prefill"), Error);
}

TEST_CASE("each moment compacts when it should") {
  struct Case {
    const char* when;
    uint32_t rows, prompt, generated, runs_read, runs_all;
  };
  // Chunks of a prompt of 1,000 tokens: 8 of 125. While generating a run is due at budget + 129 rows, then every 129.
  for (const Case& one : {Case{"prefill", 200, 1000, 300, 1, 1},          //
                          Case{"stream", 64, 1000, 300, 8, 8},            //
                          Case{"stream", 300, 1000, 0, 6, 6},             // the third chunk is the first over it
                          Case{"stream", 2000, 1000, 0, 1, 1},            // only the look at the end
                          Case{"prefill+stream", 300, 1000, 0, 6, 6},     //
                          Case{"decode", 200, 100, 228, 0, 0},            //
                          Case{"decode", 200, 100, 229, 0, 1},            //
                          Case{"decode", 200, 100, 229 + 128, 0, 1},      //
                          Case{"decode", 200, 100, 229 + 129, 0, 2},      //
                          Case{"decode", 200, 1000, 1, 0, 1},             // the prompt is over the budget by itself
                          Case{"prefill+decode", 200, 1000, 128, 1, 1},   //
                          Case{"prefill+decode", 200, 1000, 258, 1, 3},   //
                          Case{"stream+decode", 64, 1000, 129, 8, 9}}) {  //
    CAPTURE(one.when);
    CAPTURE(one.rows);
    CAPTURE(one.generated);
    const Compactor chosen = compactor("streaming_llm", std::to_string(one.rows));
    Session session(toy(), options(chosen));
    Keeper keeper(chosen, parse_moments(one.when));
    CHECK_FALSE(keeper.report());
    keeper.read(session, random_tokens(one.prompt, 1), {});
    CHECK(keeper.report()->runs == one.runs_read);
    add_all(keeper, session, random_tokens(one.generated, 2));
    CHECK(keeper.report()->runs == one.runs_all);
    CHECK(session.tokens().size() == one.prompt + one.generated);
  }
}

TEST_CASE("streaming and generating keep exactly the rows that the policy names") {
  constexpr int32_t kRows = 100;
  const Compactor chosen = compactor("streaming_llm:sinks=4", "100");
  Session session(toy(), options(chosen));
  Keeper keeper(chosen, parse_moments("stream+decode"));
  keeper.read(session, random_tokens(1000, 1), {});
  const auto check = [&](int32_t newest_since) {  // rows 0 to 3 and all from newest_since on
    for (const Head& head : contents(session)) {
      std::vector<int32_t> expected{0, 1, 2, 3};
      for (int32_t at = newest_since; at < static_cast<int32_t>(session.tokens().size()); ++at) expected.push_back(at);
      CHECK(head.positions == expected);
    }
  };
  check(1000 - kRows + 4);
  add_all(keeper, session, random_tokens(128, 2));
  check(1000 - kRows + 4);  // over the budget by the slack, not more
  add_all(keeper, session, random_tokens(1, 3));
  check(1129 - kRows + 4);
  add_all(keeper, session, random_tokens(10, 4));
  check(1129 - kRows + 4);
}

TEST_CASE("positions stay those of the text: the first layer's keys are those of a full cache") {
  const std::vector<Token> prompt = random_tokens(700, 5), said = random_tokens(300, 6);
  const Compactor chosen = compactor("h2o", "60"), none = compactor("none", "");
  Session session(toy(), options(chosen)), full(toy(), options(none));
  Keeper keeper(chosen, parse_moments("stream+decode"));
  keeper.read(session, prompt, {});
  add_all(keeper, session, said);
  full.extend(prompt);
  full.extend(said);
  const std::vector<Head> found = contents(session), expected = contents(full);
  for (uint32_t head = 0; head < kHeads; ++head) {  // of the first layer, whose keys do not depend on attention
    CHECK(found[head].positions.size() <= 60 + Keeper::kSlack);
    CHECK(found[head].positions.back() == 999);
    std::vector<float> same;
    for (const int32_t position : found[head].positions) {
      const auto from = expected[head].keys.begin() + ptrdiff_t{position} * kHeadDim;
      same.insert(same.end(), from, from + kHeadDim);
    }
    CHECK(test::nmse(found[head].keys, same) < 1e-6);
  }
}

TEST_CASE("a budget that nothing exceeds changes nothing at any moment") {
  for (const char* budget : {"100%", "4000"}) {
    for (const char* when : {"stream", "decode", "stream+decode", "prefill+decode"}) {
      CAPTURE(budget);
      CAPTURE(when);
      const Compactor chosen = compactor("h2o", budget), none = compactor("none", "");
      Session session(toy(), options(chosen)), full(toy(), options(none));
      Keeper keeper(chosen, parse_moments(when)), control(none, {});
      keeper.read(session, random_tokens(600, 7), {});
      control.read(full, random_tokens(600, 7), {});
      add_all(keeper, session, random_tokens(300, 8));
      add_all(control, full, random_tokens(300, 8));
      CHECK(session.rows() == full.rows());
      CHECK(test::nmse(session.logits(), full.logits()) < 1e-6);
      CHECK(keeper.report()->rows_before >= keeper.report()->rows_after);
    }
  }
}

TEST_CASE("generating 4,000 tokens under 1,024 rows a head: bytes stay flat") {
  const auto model = std::make_shared<const model::Model>(test::talking_model());
  const text::Tokenizer tokenizer(test::talking_model());
  constexpr uint32_t kRows = 1024, kTokens = 4000, kTalkingAll = test::kTalkingLayers * test::kTalkingHeads;
  for (const char* method : {"h2o", "kvmerger", "expected_attention+uniform+ls"}) {
    CAPTURE(method);
    const Compactor chosen = compactor(method, std::to_string(kRows));
    Session session(model, options(chosen));
    Keeper keeper(chosen, parse_moments("prefill+decode"));
    keeper.read(session, tokenizer.encode("Tell me a long story.", true, false), {});
    GenerateOptions generation;
    generation.max_tokens = kTokens;
    generation.sampler.seed = 1;
    generation.sampler.ignore_eos = true;
    uint32_t most_rows = 0;
    size_t most_bytes = 0, seen = 0;
    const auto sink = [&](std::string_view) {
      ++seen;
      most_rows = std::max(most_rows, static_cast<uint32_t>(session.rows() / kTalkingAll));
      most_bytes = std::max(most_bytes, session.bytes().used);
      return true;
    };
    const Generation made = generate(session, tokenizer, generation, session.tokens(), sink, keeper, {});
    CHECK(made.finish_reason == "length");
    CHECK(made.tokens.size() == kTokens);
    CHECK(seen > kTokens / 4);  // some of the tokens are parts of characters
    // All that was said is in the text but the last token, and the next one's position is their number.
    CHECK(session.tokens().size() == 22 + kTokens - 1);
    CHECK(most_rows > kRows + Keeper::kSlack / 2);
    CHECK(most_rows <= kRows + Keeper::kSlack);
    CHECK(most_bytes <= bytes_of(chosen, kRows + Keeper::kSlack, kTalkingAll));
    CHECK(session.bytes().peak <=
          bytes_of(chosen, kRows + Keeper::kSlack + 1, kTalkingAll) + bytes_of(chosen, kRows, test::kTalkingHeads));
    CHECK(keeper.report()->runs == 1 + 1 + (22 + kTokens - 1 - (kRows + 129)) / 129);
    for (const Head& head : contents(session)) {
      CHECK(head.positions.size() <= kRows + Keeper::kSlack);
      CHECK(head.positions.back() == 22 + kTokens - 2);
      CHECK(std::ranges::is_sorted(head.positions));
    }
  }
}

TEST_CASE("every method and every policy, at every moment") {
  for (const std::string& method : methods_and_policies()) {
    for (const char* when : {"stream", "decode", "stream+decode", "prefill+decode"}) {
      for (const char* budget : {"48", "20%"}) {
        CAPTURE(method);
        CAPTURE(when);
        CAPTURE(budget);
        const Compactor chosen = compactor(method, budget);
        Session session(toy(), options(chosen));
        Keeper keeper(chosen, parse_moments(when));
        const Moments moments = parse_moments(when);
        keeper.read(session, random_tokens(300, 9), {});
        const auto allowed = [&] {
          const uint64_t share = session.tokens().size() * kAllHeads * 20 / 100;
          return budget == std::string("48") ? uint64_t{48} * kAllHeads : share;
        };
        if (moments.prefill || moments.stream) CHECK(session.rows() <= allowed());
        keeper.read_on(session, random_tokens(20, 10), {});
        for (const Token token : random_tokens(150, 11)) {
          keeper.add(session, token, {});
          if (moments.decode) CHECK(session.rows() <= allowed() + kAllHeads * Keeper::kSlack);
        }
        CHECK(session.tokens().size() == 470);
        CHECK(finite(session.logits()));
        CHECK(keeper.report()->runs >= 1);
        for (const Head& head : contents(session)) CHECK(head.positions.back() == 469);
      }
    }
  }
}

TEST_CASE("interrupted while streaming: what was read stays, and reading can go on") {
  const std::vector<Token> tokens = random_tokens(1000, 12);
  for (const char* method : {"h2o", "kvzip"}) {
    for (const uint32_t batches : {0U, 1U, 3U, 6U}) {
      CAPTURE(method);
      CAPTURE(batches);
      const Compactor chosen = compactor(method, "64");
      Session session(toy(), options(chosen));
      Keeper keeper(chosen, parse_moments("stream"));
      uint32_t done = 0;
      const RunHooks hooks{[&](uint32_t, uint32_t) { ++done; }, [&] { return done > batches; }};
      const RunHooks at_once{nullptr, [] { return true; }};
      CHECK_THROWS_AS(keeper.read(session, tokens, batches == 0 ? at_once : hooks), Interrupted);
      const size_t read = session.tokens().size();
      CHECK(read < tokens.size());
      CHECK(read >= (batches > 0 ? 125 * batches : 0));
      CHECK(std::equal(session.tokens().begin(), session.tokens().end(), tokens.begin()));
      CHECK(session.rows() <= kAllHeads * (64 + kBatch));
      Keeper next(chosen, parse_moments("stream"));
      next.read(session, std::span(tokens).subspan(read), {});
      CHECK(session.tokens() == tokens);
      CHECK(session.rows() <= kAllHeads * 64);
      CHECK(finite(session.logits()));
      for (const Head& head : contents(session)) CHECK(head.positions.back() == 999);
    }
  }
}

TEST_CASE("interrupted while generating: the token that was cut off is not in the text") {
  const Compactor chosen = compactor("h2o", "64");
  Session session(toy(), options(chosen));
  Keeper keeper(chosen, parse_moments("prefill+decode"));
  keeper.read(session, random_tokens(200, 13), {});
  CHECK_THROWS_AS(keeper.add(session, 5, {nullptr, [] { return true; }}), Interrupted);
  CHECK(session.tokens().size() == 200);
  CHECK(session.rows() == kAllHeads * 64);
  keeper.add(session, 5, {});
  CHECK(session.rows() == kAllHeads * 65);
  CHECK(finite(session.logits()));
}

TEST_CASE("the report adds up the runs, against the full text") {
  const Compactor chosen = compactor("kvzip", "64"), none = compactor("none", "");
  Session session(toy(), options(chosen));
  Keeper keeper(chosen, parse_moments("stream+decode"));
  keeper.read(session, random_tokens(500, 14), {});
  const CompactionReport first = *keeper.report();
  CHECK(first.runs == 4);
  CHECK(first.rows_before == kAllHeads * 500);
  CHECK(first.rows_after == kAllHeads * 64);
  CHECK(first.bytes_before == kAllHeads * ((500 + 15) / 16) * page_bytes(chosen));
  CHECK(first.bytes_after == session.bytes().used);
  CHECK(first.seconds > first.reconstruction_seconds);
  CHECK(first.reconstruction_seconds > 0.0);
  add_all(keeper, session, random_tokens(129, 15));
  const CompactionReport second = *keeper.report();
  CHECK(second.runs == 5);
  CHECK(second.rows_before == kAllHeads * 629);
  CHECK(second.bytes_before == kAllHeads * ((629 + 15) / 16) * page_bytes(chosen));
  CHECK(second.seconds > first.seconds);
  CHECK(second.reconstruction_seconds > first.reconstruction_seconds);

  Session once(toy(), options(chosen)), full(toy(), options(none));
  Keeper prefill(chosen, parse_moments("prefill")), control(none, parse_moments("prefill"));
  prefill.read(once, random_tokens(500, 14), {});
  CHECK(prefill.report()->runs == 1);
  CHECK(prefill.report()->bytes_before == first.bytes_before);
  control.read(full, random_tokens(500, 14), {});
  CHECK(control.report()->runs == 0);
  CHECK(control.report()->rows_before == kAllHeads * 500);
  CHECK(control.report()->rows_after == kAllHeads * 500);
}

TEST_CASE("question and answer are recorded when generating compacts, and only then") {
  const Compactor chosen = compactor("h2o:recent=0.1", "300"), half = compactor("h2o:recent=0.1", "120");
  const auto kept = [&](const auto& read_question) {  // of the first head, after a document and a question
    Session session(toy(), options(chosen));
    session.extend(random_tokens(100, 16), true);
    read_question(session);
    session.compact(half);
    return contents(session)[0].positions;
  };
  const std::vector<Token> question = random_tokens(100, 17);
  const auto by_keeper = [&](const char* when) {
    return kept([&](Session& session) { Keeper(chosen, parse_moments(when)).read_on(session, question, {}); });
  };
  const auto recorded = kept([&](Session& session) { session.extend(question, true); });
  const auto not_recorded = kept([&](Session& session) { session.extend(question, false); });
  CHECK(recorded != not_recorded);
  CHECK(by_keeper("prefill+decode") == recorded);
  CHECK(by_keeper("prefill") == not_recorded);

  // The same of generated tokens.
  const auto generated = [&](const char* when) {
    return kept([&](Session& session) {
      Keeper keeper(chosen, parse_moments(when));
      add_all(keeper, session, question);
    });
  };
  const auto one_by_one = [&](bool record) {
    return kept([&](Session& session) {
      for (const Token token : question) session.extend(std::array{token}, record);
    });
  };
  CHECK(one_by_one(true) != one_by_one(false));
  CHECK(generated("decode") == one_by_one(true));
  CHECK(generated("prefill") == one_by_one(false));
}

}  // namespace kvmerger::engine
