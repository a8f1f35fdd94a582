#include "cli/answering.h"

#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/reading.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"

namespace kvmerger::cli {

int answer(engine::Session& session, const text::Tokenizer& tokenizer, const engine::GenerateOptions& options,
           std::span<const engine::Token> prompt, engine::Keeper& keeper, Record& record) {
  const auto start = Clock::now();
  Answer out;
  const auto sink = [&](std::string_view piece) {
    if (record.first_token_s == 0) {
      record.first_token_s = record.prefill_s + record.compact_s + seconds_since(start);
    }
    return out.write(piece);
  };
  record.generation =
      engine::generate(session, tokenizer, options, prompt, sink, keeper, {nullptr, [] { return interrupted(); }});
  out.end();
  note_compaction(record, keeper);
  if (out.closed()) {
    log_warn("stdout was closed; stopped generating");
    return 1;
  }
  return interrupted() ? interrupted_code() : 0;
}

int stopped_while_reading(Record& record) {
  record.generation.finish_reason = "interrupted";
  log_warn(cat("interrupted after reading ", thousands(record.read_tokens), " of ",
               thousands(record.prompt_tokens - record.reused_tokens), " tokens"));
  return interrupted_code();
}

void finish(Record& record, const engine::Session& session, const std::string& report_path) {
  note_session(record, session);
  print_summary(record);
  write_report(record, report_path);
}

}  // namespace kvmerger::cli
