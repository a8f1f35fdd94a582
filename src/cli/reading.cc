#include "cli/reading.h"

#include <algorithm>
#include <functional>

#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/texts.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/profiles.h"

namespace kvmerger::cli {
namespace {

constexpr uint32_t kAnswerRoom = 256;  // tokens left for an answer of unknown length when the document is cut

}  // namespace

engine::PromptParts prompt_parts(const TextFlags& flags) {
  engine::PromptParts parts;
  if (flags.file.empty() && flags.prompt.empty()) {
    throw UsageError("nothing to read: give a prompt with -p, a document with -f, or both");
  }
  parts.chat = !flags.raw;
  parts.system = given_text(flags.system, !flags.no_escape, "--system-prompt");
  parts.question = given_text(flags.prompt, !flags.no_escape, "--prompt");
  if (!flags.file.empty()) parts.document = read_document(flags.file);
  return parts;
}

uint32_t prompt_room(uint32_t context, int32_t answer, engine::Truncate truncate) {
  if (truncate == engine::Truncate::kRefuse) return context;
  const uint32_t wanted = answer < 0 ? kAnswerRoom : static_cast<uint32_t>(answer);
  return context - std::min(wanted, context / 2);
}

void note_prompt(Record& record, const engine::Prompt& prompt) {
  record.prompt_tokens = static_cast<uint32_t>(prompt.size());
  record.cut_tokens = prompt.cut_tokens;
  record.cut = prompt.cut;
  if (prompt.cut_tokens > 0) log_warn(cat("the text does not fit the context: ", prompt.cut));
  log_debug(cat("tokens    ", thousands(prompt.document.size()), " up to the end of the document, ",
                thousands(prompt.question.size()), " behind it"));
}

Compaction::Compaction(const CacheFlags& flags)
    : compactor(compaction_spec(flags)),
      keeper(compactor, engine::parse_moments(flags.when)),
      when(flags.when),
      profile(flags.profile),
      question_aware(flags.question_aware) {}

Opened open_session(const std::string& command, const ModelFlags& model, const CacheTypeFlags& types,
                    Compaction& compaction) {
  Opened opened;
  opened.loaded = load_model(model.model, weight_layout(model));
  engine::SessionOptions options = session_options(model, types);
  if (model.batch == 0 && compaction.keeper.moments().stream) options.batch = engine::Keeper::kStreamBatch;
  options.needs = compaction.compactor.needs();
  options.repeat_prompt = engine::repeat_prompt(*opened.loaded.tokenizer);
  opened.session = std::make_unique<engine::Session>(opened.loaded.model, options);
  opened.record = begin_record(command, opened.loaded, *opened.session);
  note_compactor(opened.record, compaction.compactor, compaction.when);
  opened.record.question_aware = compaction.question_aware;
  print_banner(opened.record);
  Progress progress("calibrating");
  engine::provide_profile(compaction.compactor, opened.loaded.model, *opened.loaded.tokenizer, options.threads,
                          compaction.profile, progress.hooks());
  return opened;
}

namespace {

// Runs `read`, adding time and count to the record. False when interrupted.
bool timed(engine::Session& session, Record& record, const std::function<void(const engine::RunHooks&)>& read) {
  const auto start = Clock::now();
  const size_t before = session.tokens().size();
  bool done = true;
  try {
    Progress progress("reading");
    read(progress.hooks());
  } catch (const engine::Interrupted&) {
    done = false;
  }
  record.prefill_s += seconds_since(start);
  record.read_tokens += static_cast<uint32_t>(session.tokens().size() - before);
  return done && !interrupted();
}

}  // namespace

bool read_tokens(engine::Session& session, std::span<const engine::Token> tokens, Record& record) {
  return timed(session, record, [&](const engine::RunHooks& hooks) { session.extend(tokens, false, hooks); });
}

void note_compaction(Record& record, const engine::Keeper& keeper) {
  record.compaction = keeper.report();
  if (!record.compaction) return;
  record.compact_s = record.compaction->seconds;
  record.note = record.compaction->note;
}

bool read_prompt(engine::Session& session, const engine::Prompt& prompt, Compaction& compaction, Record& record) {
  std::vector<engine::Token> first = prompt.document;
  const bool together = prompt.document.empty() || compaction.question_aware;
  if (together) first.insert(first.end(), prompt.question.begin(), prompt.question.end());
  const bool done =
      timed(session, record, [&](const engine::RunHooks& hooks) { compaction.keeper.read(session, first, hooks); });
  note_compaction(record, compaction.keeper);
  record.prefill_s -= record.compact_s;
  if (!record.note.empty()) log_info(cat("note      ", record.note));
  if (!done || together) return done;
  return timed(session, record,
               [&](const engine::RunHooks& hooks) { compaction.keeper.read_on(session, prompt.question, hooks); });
}

}  // namespace kvmerger::cli
