// kvmerger ask: a question behind a document that compress has read.
#include <unistd.h>

#include "cli/answering.h"
#include "cli/commands.h"
#include "cli/reading.h"
#include "cli/texts.h"
#include "core/error.h"
#include "core/json.h"
#include "text/sampler.h"

namespace kvmerger::cli {
namespace {

// The model named on the command line, or the one the snapshot was made with.
std::string model_path(const std::string& asked, const Json& about) {
  if (!asked.empty()) return asked;
  const std::string& made_with = about.at("report").at("model").at("path").text();
  return access(made_with.c_str(), R_OK) == 0 ? made_with : "";
}

void note_snapshot(Record& record, const Json& about, const std::string& path) {
  const Json& kv = about.at("report").at("kv");
  const Json& budget = kv.at("budget");
  record.snapshot = path;
  record.spec = {kv.at("policy").text(), kv.at("heads").text(), kv.at("fit").text(),
                 budget.get<std::string>() ? budget.text() : ""};
  record.compresses = !record.spec.budget.empty() || kv.at("rows_before").integer() != kv.at("rows_after").integer();
  record.when = kv.at("when").text();
}

}  // namespace

int ask(const AskOptions& options) {
  if (options.text.prompt.empty()) throw UsageError("nothing to ask: give a question with -p");
  const bool escapes = !options.text.no_escape;
  const engine::GenerateOptions generation = generate_options(options.generation, escapes);
  const std::string question = given_text(options.text.prompt, escapes, "--prompt");
  check_writable(options.talk.report, "--report");
  const Json about = parse_json(engine::Session::read_about(options.snapshot));

  const Loaded loaded = load_model(model_path(options.model.model, about), weight_layout(options.model));
  const text::Sampler checked(*loaded.tokenizer, generation.sampler);  // a bad value shows now
  engine::SessionOptions session_options = cli::session_options(options.model, {});
  if (session_options.context == 0) session_options.context = static_cast<uint32_t>(about.at("context").integer());
  const std::unique_ptr<engine::Session> session =
      engine::Session::load(options.snapshot, loaded.model, session_options, nullptr);
  Record record = begin_record("ask", loaded, *session);
  note_snapshot(record, about, options.snapshot);
  print_banner(record);

  const std::vector<engine::Token> tokens =
      engine::build_question(*loaded.tokenizer, question, about.at("chat").boolean());
  record.reused_tokens = static_cast<uint32_t>(session->tokens().size());
  record.prompt_tokens = record.reused_tokens + static_cast<uint32_t>(tokens.size());
  const engine::Compactor full(engine::CompactionSpec{});
  engine::Keeper keeper(full, {});
  const int code = read_tokens(*session, tokens, record)
                       ? answer(*session, *loaded.tokenizer, generation, session->tokens(), keeper, record)
                       : stopped_while_reading(record);
  finish(record, *session, options.talk.report);
  return code;
}

}  // namespace kvmerger::cli
