// kvmerger run: one prompt, one answer.
#include "cli/answering.h"
#include "cli/commands.h"
#include "cli/reading.h"
#include "text/sampler.h"

namespace kvmerger::cli {

int run(const RunOptions& options) {
  Compaction compaction(options.cache);
  const engine::GenerateOptions generation = generate_options(options.generation, !options.text.no_escape);
  check_writable(options.talk.report, "--report");
  const engine::PromptParts parts = prompt_parts(options.text);

  auto [loaded, session, record] = open_session("run", options.model, options.types, compaction);
  const text::Tokenizer& tokenizer = *loaded.tokenizer;
  const text::Sampler checked(tokenizer, generation.sampler);  // a bad value shows now, not after the reading
  const engine::Truncate truncate = truncation(options.text);
  const uint32_t room = prompt_room(session->context(), generation.max_tokens, truncate);
  const engine::Prompt prompt = engine::build_prompt(tokenizer, parts, room, truncate);
  note_prompt(record, prompt);

  const int code = read_prompt(*session, prompt, compaction, record)
                       ? answer(*session, tokenizer, generation, session->tokens(), compaction.keeper, record)
                       : stopped_while_reading(record);
  finish(record, *session, options.talk.report);
  return code;
}

}  // namespace kvmerger::cli
