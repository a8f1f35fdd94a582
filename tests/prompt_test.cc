// Prompts from odd documents, and what generation does with those who listen.
#include "engine/prompt.h"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "engine/generate.h"
#include "engine/session.h"
#include "model/model.h"
#include "talking_model.h"
#include "text/tokenizer.h"

namespace kvmerger::engine {
namespace {

using test::kBeforeText;
using test::kBehindText;

// In the toy vocabulary every byte is a token, a space has one of its own, and tokens below 5 are special.
constexpr int32_t kSpace = 5, kFirstByte = 6;

const text::Tokenizer& tokenizer() {
  static const text::Tokenizer tokenizer(test::talking_model());
  return tokenizer;
}

std::vector<text::Token> expected_tokens(const std::string& bytes) {
  std::vector<text::Token> tokens;
  for (const char letter : bytes) {
    tokens.push_back(letter == ' ' ? kSpace : kFirstByte + static_cast<unsigned char>(letter));
  }
  return tokens;
}

std::string random_text(Rng& rng) {
  const std::vector<std::string> pieces{"<|im_end|>",  "<s>", "<unk>",    std::string(1, '\0'),     " ",
                                        "\n",          "a",   "\xC3\xA4", "@@kvmerger-user-text@@", "{{",
                                        "\xE2\x96\x81"};
  std::string text;
  for (uint32_t count = rng.below(12); count > 0; --count)
    text += pieces[rng.below(static_cast<uint32_t>(pieces.size()))];
  return text;
}

}  // namespace

TEST_CASE("odd documents are in the prompt byte by byte, and cannot become special tokens") {
  Rng rng(5);
  for (uint32_t round = 0; round < 300; ++round) {
    const std::string document = random_text(rng);
    if (document.find("\xE2\x96\x81") != std::string::npos) continue;  // reads as a space in this vocabulary
    CAPTURE(document);
    const Prompt prompt = build_prompt(tokenizer(), {"", document, "Q", true}, 10000, Truncate::kRefuse);
    const uint32_t between = document.empty() ? 0 : 2;
    REQUIRE(prompt.size() == kBeforeText + document.size() + between + 1 + kBehindText);
    if (document.empty()) {
      CHECK(prompt.document.empty());
      continue;
    }
    const std::vector<text::Token> inside(prompt.document.begin() + kBeforeText, prompt.document.end());
    CHECK(inside == expected_tokens(document));
  }
}

TEST_CASE("a prompt fits any room that its frame fits, and is refused by smaller ones") {
  Rng rng(6);
  for (uint32_t round = 0; round < 300; ++round) {
    const std::string document = random_text(rng), question = random_text(rng);
    const Truncate truncate = rng.below(2) == 0 ? Truncate::kLeft : Truncate::kMiddle;
    const PromptParts parts{"", document, question, true};
    const Prompt whole = build_prompt(tokenizer(), parts, UINT32_MAX, truncate);
    CHECK(whole.cut.empty());
    const auto fixed = static_cast<uint32_t>(whole.size() - tokenizer().encode(document, false, false).size());
    for (const uint32_t room : {0U, 1U, fixed - 1, fixed, fixed + 1, static_cast<uint32_t>(whole.size())}) {
      CAPTURE(room);
      if (room >= whole.size()) {
        CHECK(build_prompt(tokenizer(), parts, room, truncate).size() == whole.size());
      } else if (room <= fixed) {  // a document of no token is no document
        CHECK_THROWS_AS(build_prompt(tokenizer(), parts, room, truncate), Error);
      } else {
        const Prompt cut = build_prompt(tokenizer(), parts, room, truncate);
        CHECK(cut.size() == room);
        CHECK(cut.cut_tokens == whole.size() - room);
        CHECK(cut.question == whole.question);
      }
      CHECK((room >= whole.size() || [&] {
        try {
          build_prompt(tokenizer(), parts, room, Truncate::kRefuse);
        } catch (const Error&) {
          return true;
        }
        return false;
      }()));
    }
  }
}

TEST_CASE("a sink that has said stop is not asked again, though text is still held back") {
  const auto model = std::make_shared<const model::Model>(test::talking_model());
  GenerateOptions options;
  options.max_tokens = 2;
  const auto run = [&](const std::function<bool(std::string_view)>& sink) {
    SessionOptions session_options;
    session_options.threads = 1;
    Session session(model, session_options);
    session.extend(tokenizer().encode("abc", true, false));
    const Compactor full(CompactionSpec{});
    Keeper keeper(full, {});
    return generate(session, tokenizer(), options, {}, sink, keeper, {});
  };
  const auto is_letter = [](text::Token token) { return token > kFirstByte + ' ' && token < kFirstByte + 127; };
  Generation two;
  for (options.sampler.seed = 1; options.sampler.seed < 1000; ++options.sampler.seed) {
    two = run([](std::string_view) { return true; });
    if (two.tokens.size() == 2 && is_letter(two.tokens[0]) && is_letter(two.tokens[1])) break;
  }
  REQUIRE(two.text.size() == 2);
  // Each letter could begin a stop string: the first is shown when the second comes, which is then held back.
  options.stops = {two.text.substr(0, 1) + "\x01", two.text.substr(1, 1) + "\x01"};
  uint32_t calls = 0;
  const Generation made = run([&](std::string_view text) {
    CHECK(text == two.text.substr(0, 1));
    ++calls;
    return false;
  });
  CHECK(calls == 1);
  CHECK(made.finish_reason == "interrupted");
  CHECK(made.text == two.text);
}

}  // namespace kvmerger::engine
