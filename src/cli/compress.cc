// kvmerger compress: a document read once, its compacted cache in a file.
#include <sys/stat.h>

#include "cli/answering.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/reading.h"
#include "core/error.h"
#include "core/log.h"

namespace kvmerger::cli {
namespace {

constexpr int32_t kQuestionRoom = 512;  // tokens left for question and answer when the document is cut

// What ask needs to know, and what people may want to.
Json about(const Record& record, const engine::PromptParts& parts) {
  const model::Rope& rope = record.model->config().rope;
  return Json::Object{
      {"chat", parts.chat},
      {"system", parts.system},
      {"context", record.context},
      {"rope", Json::Object{{"base", double{rope.base}}, {"scale", double{rope.scale}}, {"dims", rope.dims}}},
      {"report", to_json(record)}};
}

void save(Record& record, const engine::Session& session, const engine::PromptParts& parts, const std::string& path) {
  record.snapshot = path;
  note_session(record, session);
  session.save(path, dump_json(about(record, parts), -1));
  struct stat facts{};
  if (stat(path.c_str(), &facts) != 0) throw Error(cat("the snapshot ", path, " is gone after it was written"));
  log_info(cat("written   ", path, ", ", bytes_text(static_cast<size_t>(facts.st_size)), "; ask it with: kvmerger ask ",
               path, " -p \"...\""));
}

}  // namespace

int compress(const CompressOptions& options) {
  if (options.text.file.empty()) throw UsageError("nothing to compress: give a document with -f");
  Compaction compaction(options.cache);
  check_writable(options.output, "--output");
  check_writable(options.talk.report, "--report");
  const engine::PromptParts parts = prompt_parts(options.text);

  auto [loaded, session, record] = open_session("compress", options.model, options.types, compaction);
  if (!record.compresses) log_warn("no --kv-budget: the full cache is kept");
  const engine::Truncate truncate = truncation(options.text);
  const uint32_t room = prompt_room(session->context(), kQuestionRoom, truncate);
  engine::Prompt prompt = engine::build_prompt(*loaded.tokenizer, parts, room, truncate);
  prompt.question.clear();  // what closes the user's turn comes with each question
  note_prompt(record, prompt);

  const bool read = read_prompt(*session, prompt, compaction, record);
  if (read) save(record, *session, parts, options.output);
  const int code = read ? 0 : stopped_while_reading(record);
  finish(record, *session, options.talk.report);
  return code;
}

}  // namespace kvmerger::cli
