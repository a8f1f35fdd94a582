// kvmerger chat: a conversation, line by line on stdin. Every turn goes on from the cache of the turns before.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/answering.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/reading.h"
#include "cli/texts.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"
#include "text/sampler.h"

namespace kvmerger::cli {
namespace {

class Conversation {
 public:
  Conversation(const Loaded& loaded, engine::Session& session, Compaction& compaction, const RunOptions& options,
               engine::PromptParts parts, Record& record)
      : loaded_(loaded),
        session_(session),
        compaction_(compaction),
        options_(options),
        generation_(generate_options(options.generation, !options.text.no_escape)),
        parts_(std::move(parts)),
        record_(record) {}

  // One question, one answer. Returns the exit code the program would end with now: 0 to go on.
  int turn(const std::string& text) {
    record_.generation = {};
    record_.first_token_s = record_.prefill_s = record_.compact_s = 0;
    record_.read_tokens = 0;
    record_.reused_tokens = static_cast<uint32_t>(session_.tokens().size());
    const bool first = transcript_.empty();
    if (!(first ? read_first(text) : read_next(text))) {
      const int code = stopped_while_reading(record_);
      return first ? code : 0;  // later turns can be tried again: the session still holds those before
    }
    transcript_ = session_.tokens();
    const int code = answer(session_, *loaded_.tokenizer, generation_, transcript_, compaction_.keeper, record_);
    const std::vector<engine::Token>& said = record_.generation.tokens;
    transcript_.insert(transcript_.end(), said.begin(), said.end());
    if (record_.generation.finish_reason == "context") log_warn("the context is full; a new chat is needed to go on");
    note_session(record_, session_);
    turns_.push_back(turn_json(text));
    return interrupted() ? 0 : code;
  }

  // "tokens 1,204 / 8,192 (15%), 54,180 rows, 12.9 MiB"
  std::string gauge() const {
    const double share = static_cast<double>(session_.tokens().size()) / session_.context();
    return cat("[tokens ", thousands(session_.tokens().size()), " / ", thousands(session_.context()), " (",
               share_text(share), "), KV ", thousands(session_.rows()), " rows, ", bytes_text(session_.bytes().used),
               ", full cache ", bytes_text(session_.bytes_per_token() * session_.tokens().size()), "]");
  }

  Json::Array turns() const { return turns_; }

 private:
  bool read_first(const std::string& text) {
    parts_.question = text;
    const engine::Truncate truncate = truncation(options_.text);
    const uint32_t room = prompt_room(session_.context(), generation_.max_tokens, truncate);
    const engine::Prompt prompt = engine::build_prompt(*loaded_.tokenizer, parts_, room, truncate);
    note_prompt(record_, prompt);
    return read_prompt(session_, prompt, compaction_, record_);
  }

  bool read_next(const std::string& text) {
    std::vector<engine::Token> tokens = transcript_;
    const std::vector<engine::Token> more = engine::build_next_turn(*loaded_.tokenizer, parts_.system, text);
    tokens.insert(tokens.end(), more.begin(), more.end());
    record_.prompt_tokens = static_cast<uint32_t>(tokens.size());
    const auto start = Clock::now();
    try {
      Progress progress("reading");
      const engine::Session::Synced synced = session_.sync(tokens, progress.hooks());
      record_.reused_tokens = synced.reused;
      record_.read_tokens = synced.evaluated;
    } catch (const engine::Interrupted&) {
      return false;
    }
    record_.prefill_s = seconds_since(start);
    return !interrupted();
  }

  Json turn_json(const std::string& text) const {
    return Json::Object{{"user", text},
                        {"assistant", record_.generation.text},
                        {"finish_reason", record_.generation.finish_reason},
                        {"reused_tokens", record_.reused_tokens},
                        {"read_tokens", record_.read_tokens},
                        {"generated_tokens", record_.generation.tokens.size()},
                        {"rows", record_.rows},
                        {"bytes", record_.bytes}};
  }

  const Loaded& loaded_;
  engine::Session& session_;
  Compaction& compaction_;
  const RunOptions& options_;
  const engine::GenerateOptions generation_;
  engine::PromptParts parts_;
  Record& record_;
  std::vector<engine::Token> transcript_;  // all turns, including the last token generated, which the session lacks
  Json::Array turns_;
};

bool next_line(std::string& line) {
  if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) std::fputs("> ", stderr);
  if (!std::getline(std::cin, line)) return false;
  if (line.ends_with('\r')) line.pop_back();
  return line != "/exit";
}

int converse(Conversation& conversation) {
  for (std::string line; next_line(line);) {
    if (line.empty()) continue;
    if (const int code = conversation.turn(given_text(line, false, "stdin")); code != 0) return code;
    log_info(conversation.gauge());
    if (interrupted() && !forget_ctrl_c()) break;  // Ctrl-C ends an answer; at the prompt it ends the chat
  }
  return interrupted() ? interrupted_code() : 0;
}

void check(const RunOptions& options, const Loaded& loaded) {
  const text::Sampler checked(*loaded.tokenizer, options.generation.options.sampler);  // throws on a bad value
  if (!loaded.tokenizer->has_chat_template()) {
    throw Error(cat("the model ", loaded.model->facts().path, " has no chat template; use kvmerger run --raw"));
  }
}

}  // namespace

int chat(const RunOptions& options) {
  if (options.text.raw) throw UsageError("a chat needs the model's chat template; --raw is for kvmerger run");
  if (!options.text.prompt.empty()) throw UsageError("a chat takes its questions from stdin, not from -p");
  if (options.text.file == "-") throw UsageError("stdin is the conversation; give the document (-f) as a file");
  Compaction compaction(options.cache);
  check_writable(options.talk.report, "--report");
  engine::PromptParts parts;
  parts.system = given_text(options.text.system, !options.text.no_escape, "--system-prompt");
  if (!options.text.file.empty()) parts.document = read_document(options.text.file);

  auto [loaded, session, record] = open_session("chat", options.model, options.types, compaction);
  check(options, loaded);
  Conversation conversation(loaded, *session, compaction, options, std::move(parts), record);
  const int code = converse(conversation);
  Json::Object report = setting_json(record);
  report.emplace_back("turns", conversation.turns());
  if (!options.talk.report.empty()) write_file(options.talk.report, dump_json(report) + "\n");
  return code;
}

}  // namespace kvmerger::cli
