// kvmerger run: one prompt, one answer.
#include "cli/answering.h"
#include "cli/commands.h"
#include "cli/reading.h"
#include "text/sampler.h"

namespace kvmerger::cli {

int run(const RunOptions& options) {
  const engine::Compactor compactor(compaction_spec(options.cache));
  const engine::Trigger& trigger = engine::find_trigger(options.cache.when);
  const engine::GenerateOptions generation = generate_options(options.generation, !options.text.no_escape);
  check_writable(options.talk.report, "--report");
  const engine::PromptParts parts = prompt_parts(options.text);

  const Loaded loaded = load_model(options.model.model, options.model.repack);
  const text::Sampler checked(*loaded.tokenizer, generation.sampler);  // a bad value shows now, not after the reading
  engine::SessionOptions session_options = cli::session_options(options.model, options.types);
  session_options.needs = compactor.needs();
  engine::Session session(loaded.model, session_options);
  Record record = begin_record("run", loaded, session);
  note_compactor(record, compactor, options.cache.when);
  print_banner(record);

  const engine::Truncate truncate = truncation(options.text);
  const uint32_t room = prompt_room(session.context(), generation.max_tokens, truncate);
  const engine::Prompt prompt = engine::build_prompt(*loaded.tokenizer, parts, room, truncate);
  note_prompt(record, prompt);
  const int code = read_prompt(session, prompt, {compactor, trigger}, record)
                       ? answer(session, *loaded.tokenizer, generation, session.tokens(), record)
                       : stopped_while_reading(record);
  finish(record, session, options.talk.report);
  return code;
}

}  // namespace kvmerger::cli
