// Generating an answer to stdout, and ending a command with summary and report.
#pragma once

#include <span>
#include <string>

#include "cli/report.h"
#include "engine/generate.h"
#include "text/tokenizer.h"

namespace kvmerger::cli {

// Streams the answer; fills record.generation. Returns the exit code: 0, 1 when stdout was closed, or that of an
// interrupt.
int answer(engine::Session& session, const text::Tokenizer& tokenizer, const engine::GenerateOptions& options,
           std::span<const engine::Token> prompt, engine::Keeper& keeper, Record& record);

// What follows when reading was interrupted; returns the exit code.
int stopped_while_reading(Record& record);

// Summary and report from the session's final state.
void finish(Record& record, const engine::Session& session, const std::string& report_path);

}  // namespace kvmerger::cli
