// stories260K through our engine: the published greedy text and perplexity, exactly; and a merged cache goes on
// sensibly.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "engine/session.h"
#include "measures.h"
#include "model/model.h"
#include "oracle.h"
#include "stories260k.h"
#include "text/tokenizer.h"

namespace kvmerger::test {
namespace {

bool stories_there() {
  if (stories260k().empty()) MESSAGE("skipped: no stories260K; set KVMERGER_DATA to the folder of the data");
  return !stories260k().empty();
}

std::string greedy(const engine::CompactionSpec& spec, const std::string& prompt, int32_t count) {
  const text::Tokenizer tokenizer(stories260k());
  const engine::Compactor compactor(spec);
  engine::SessionOptions options;
  options.needs = compactor.needs();
  options.threads = 1;
  engine::Session session(std::make_shared<const model::Model>(stories260k()), options);
  session.extend(tokenizer.encode(prompt, true, false), true);
  session.compact(compactor);
  engine::GenerateOptions generation;
  generation.max_tokens = count;
  generation.sampler.temperature = 0;
  const engine::Compactor full(engine::CompactionSpec{});
  engine::Keeper keeper(full, {});
  return engine::generate(session, tokenizer, generation, {}, [](std::string_view) { return true; }, keeper, {}).text;
}

}  // namespace

TEST_CASE("greedy text from BOS is the published one") {
  if (!stories_there()) return;
  const std::string text = greedy({}, "", 120);
  const std::string published =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
      "big, "
      "red ball. She wanted to play with it, but it was too high";
  CHECK(text.find(published) <= 1);  // a SentencePiece text begins with a space
}

TEST_CASE("greedy tokens are libllama's, for as long as the context is") {
  if (!stories_there()) return;
  const text::Tokenizer tokenizer(stories260k());
  const std::vector<int32_t> expected = llama_greedy(stories260k(), std::vector<int32_t>{1}, 400, KvType::kF32);
  CHECK(greedy({}, "", 400) == tokenizer.decode(expected, false));
}

TEST_CASE("perplexity is the published one") {
  if (!stories_there()) return;
  const text::Tokenizer tokenizer(stories260k());
  const std::vector<int32_t> tokens =
      tokenizer.encode("One day, a clever fox found a shiny key under the old oak tree.", true, false);
  REQUIRE(tokens.size() == 35);
  engine::SessionOptions options;
  options.key_type = options.value_type = kernels::RowType::kF32;
  engine::Session session(std::make_shared<const model::Model>(stories260k()), options);
  double sum = 0;
  session.score(tokens, [&](uint32_t index, std::span<const float> logits) {
    if (index + 1 < tokens.size()) sum += loss(logits, tokens[index + 1]);
  });
  CHECK(sum == doctest::Approx(54.40415).epsilon(2e-6));
  CHECK(std::exp(sum / 34) == doctest::Approx(4.95364).epsilon(2e-6));
}

TEST_CASE("every policy goes on with the story") {
  if (!stories_there()) return;
  const std::string prompt =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
      "big, "
      "red ball. She wanted to play with it, but it was too high. Lily asked her mom if she could help her reach it. "
      "Her mom "
      "said yes and lifted her up. Lily was so happy and thanked her mom. They went home and played with the ball all "
      "day.";
  for (const policy::Entry& entry : policy::all()) {
    if (!entry.make()->compresses()) continue;
    CAPTURE(entry.name);
    engine::CompactionSpec spec;
    spec.policy = entry.name;
    spec.budget = "50%";
    const std::string text = greedy(spec, prompt, 40);
    CHECK(text.size() > 60);
    CHECK(text == greedy(spec, prompt, 40));
  }
}

}  // namespace kvmerger::test
