// Reading a prompt into a session: progress, statistics, compaction at its moment; stops on interrupts.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "cli/report.h"
#include "engine/keeper.h"
#include "engine/prompt.h"

namespace kvmerger::cli {

// What is to be read, from files and flags. Throws UsageError when there is nothing.
engine::PromptParts prompt_parts(const TextFlags& flags);

// Tokens for the prompt: what the context holds; when cutting is allowed, less what the answer may need.
uint32_t prompt_room(uint32_t context, int32_t answer, engine::Truncate truncate);
// Puts the prompt's size, and what was cut off (with a warning), into the record.
void note_prompt(Record& record, const engine::Prompt& prompt);

// When and how to compact, from flags. Made before anything is loaded: throws UsageError on unknown names and values.
struct Compaction {
  explicit Compaction(const CacheFlags& flags);
  Compaction(const Compaction&) = delete;  // the keeper refers to the compactor beside it

  engine::Compactor compactor;
  engine::Keeper keeper;
  std::string when, profile;
  bool question_aware;
};

// The model, and an empty session on it; prints the banner.
struct Opened {
  Loaded loaded;
  std::unique_ptr<engine::Session> session;
  Record record;
};
Opened open_session(const std::string& command, const ModelFlags& model, const CacheTypeFlags& types,
                    Compaction& compaction);

// Reads tokens, adding time and count to the record. False when interrupted.
bool read_tokens(engine::Session& session, std::span<const engine::Token> tokens, Record& record);
// The document, compaction, the question; the question before compaction when that may see it, or when there is no
// document. False when interrupted.
bool read_prompt(engine::Session& session, const engine::Prompt& prompt, Compaction& compaction, Record& record);
// Puts what the keeper has done into the record.
void note_compaction(Record& record, const engine::Keeper& keeper);

}  // namespace kvmerger::cli
