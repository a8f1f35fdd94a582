#include "eval/bench_prompt.h"

#include <doctest/doctest.h>

#include "eval/generators.h"
#include "eval/test_folder.h"
#include "text/test_vocabulary.h"

namespace kvmerger::eval {
namespace {

// Every byte is a token, but for spaces, and the model wants BOS.
struct Bytes {
  text::TemporaryFile file{text::byte_vocabulary().bytes()};
  text::Tokenizer tokenizer{file.path()};
};

TaskFile task_of(Cut cut) {
  TaskFile task;
  task.name = "suite/task";
  task.cut = cut;
  task.max_tokens = 5;
  return task;
}

Sample sample_of(const std::string& context, const std::string& after) {
  Sample sample;
  sample.id = "i";
  sample.before = "<";
  sample.context = context;
  sample.after = after;
  sample.after_cut = "[cut]" + after;
  return sample;
}

}  // namespace

TEST_CASE("the border of a prompt is behind the context, BOS is first") {
  const Bytes bytes;
  const Sample sample = sample_of("context", "_question");
  const engine::Prompt prompt = build_prompt(bytes.tokenizer, task_of(Cut::kNone), sample, 18);
  CHECK(prompt.document.front() == bytes.tokenizer.bos());
  CHECK(bytes.tokenizer.decode(prompt.document, false) == "<context");
  CHECK(bytes.tokenizer.decode(prompt.question, false) == "_question");
  CHECK(prompt.cut_tokens == 0);
  CHECK(prompt_size(bytes.tokenizer, task_of(Cut::kNone), sample) == 1 + 8 + 9);
  CHECK(prompt_room(task_of(Cut::kNone), 20) == 15);
  CHECK_THROWS_AS(prompt_room(task_of(Cut::kNone), 5), Error);
}

TEST_CASE("cut in the middle: the first and the last half of the tokens stay, whatever they belong to") {
  const Bytes bytes;
  for (const char* after : {"ABC", "ABCDEFGHIJKLMNOPQRST", ""}) {
    const Sample sample = sample_of("0123456789abcdefghij", after);
    const std::string whole = sample.before + sample.context + sample.after;
    for (uint32_t room = 5; room < whole.size() + 1; ++room) {
      CAPTURE(room);
      const engine::Prompt prompt = build_prompt(bytes.tokenizer, task_of(Cut::kMiddle), sample, room);
      const size_t half = (room - 1) / 2;  // less BOS
      const std::string document = bytes.tokenizer.decode(prompt.document, false);
      const std::string question = bytes.tokenizer.decode(prompt.question, false);
      CHECK(document + question == whole.substr(0, half) + whole.substr(whole.size() - half));
      CHECK(prompt.cut_tokens == whole.size() - 2 * half);
      CHECK(prompt.size() <= room);
      if (std::string(after).size() <= half) CHECK(question == after);
    }
    CHECK(build_prompt(bytes.tokenizer, task_of(Cut::kMiddle), sample, static_cast<uint32_t>(whole.size() + 1))
              .cut_tokens == 0);
  }
}

TEST_CASE("cut at the context's end: the question stays, behind a note") {
  const Bytes bytes;
  const Sample sample = sample_of("0123456789", "?!");
  const engine::Prompt prompt = build_prompt(bytes.tokenizer, task_of(Cut::kContextEnd), sample, 12);
  CHECK(bytes.tokenizer.decode(prompt.document, false) == "<012");  // 12 less BOS and "[cut]?!"
  CHECK(bytes.tokenizer.decode(prompt.question, false) == "[cut]?!");
  CHECK(prompt.cut_tokens == 1 + 13 - 12);
  CHECK(bytes.tokenizer.decode(build_prompt(bytes.tokenizer, task_of(Cut::kContextEnd), sample, 14).question, false) ==
        "?!");
  CHECK_THROWS_AS(build_prompt(bytes.tokenizer, task_of(Cut::kContextEnd), sample, 8), Error);
}

TEST_CASE("a prompt that may not be cut and does not fit is named") {
  const Bytes bytes;
  const std::string message =
      error_of([&] { build_prompt(bytes.tokenizer, task_of(Cut::kNone), sample_of("0123456789", "?"), 12); });
  CHECK(message.starts_with("task suite/task, sample i: the prompt has 13 tokens and there is room for 12"));
}

TEST_CASE("a continuation follows its context in the text, and is the same at every length") {
  const Bytes bytes;
  std::string text;
  for (int number = 1000; number < 2000; ++number) text += cat("This_is_", number, ".\n");
  const Haystack haystack(std::vector<std::string>{text});
  TaskFile task = task_of(Cut::kNone);
  task.format = kPerplexity;
  task.options = parse_json(R"({"tokens": 30})");
  const Sample long_one = make_continuation(task, haystack, {200, -1, 0}, 7, bytes.tokenizer);
  const Sample short_one = make_continuation(task, haystack, {100, -1, 0}, 7, bytes.tokenizer);
  CHECK(long_one.context.size() == 200 - 30 - 1);  // the begin of every text is a token too
  CHECK(short_one.context.size() == 100 - 30 - 1);
  CHECK(long_one.continuation.size() == 30);
  CHECK(long_one.continuation == short_one.continuation);
  CHECK(long_one.context.ends_with(short_one.context));
  CHECK(text.find(long_one.context + long_one.continuation) != std::string::npos);
  CHECK(make_continuation(task, haystack, {200, -1, 1}, 7, bytes.tokenizer).continuation != long_one.continuation);
  CHECK(error_of([&] {
          make_continuation(task, haystack, {30000, -1, 0}, 7, bytes.tokenizer);
        }).find("needs 30000 tokens of text") != std::string::npos);
  CHECK(error_of([&] {
          make_continuation(task, haystack, {31, -1, 0}, 7, bytes.tokenizer);
        }).find("its length of 31 is too small") != std::string::npos);
}

}  // namespace kvmerger::eval
