#include "cli/report.h"

#include <sys/resource.h>

#include "cli/format.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/machine.h"

namespace kvmerger::cli {
namespace {

std::string type_text(kernels::RowType key, kernels::RowType value) {
  return key == value ? kernels::name_of(key)
                      : cat("keys ", kernels::name_of(key), ", values ", kernels::name_of(value));
}

std::vector<std::string> recorded(const policy::Needs& needs) {
  std::vector<std::string> names;
  if (needs.attn_sum) names.push_back("attention sums");
  if (needs.window > 0) names.push_back(cat("attention of the last ", needs.window, " queries"));
  if (needs.queries > 0) names.push_back(cat(needs.queries, " reference queries"));
  if (needs.reconstruction) names.push_back("attention while the text is repeated");
  return names;
}

size_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

bool untouched(const Record& record) {
  return record.compresses && record.compaction && record.compaction->rows_before == record.compaction->rows_after;
}

// [layers][heads]
template <typename T>
Json per_head(const Record& record, const std::vector<T>& values) {
  const uint32_t heads = record.model->config().kv_heads;
  Json::Array layers;
  for (size_t at = 0; at < values.size(); at += heads) {
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(at);
    layers.push_back(Json::Array(first, first + heads));
  }
  return layers;
}

Json cache_json(const Record& record) {
  Json::Object kv{
      {"policy", record.spec.policy}, {"budget", record.spec.budget.empty() ? Json() : Json(record.spec.budget)},
      {"heads", record.spec.heads},   {"fit", record.spec.fit},
      {"when", record.when},          {"question_aware", record.question_aware},
      {"type", record.cache_type}};
  if (record.compaction) {
    const engine::CompactionReport& done = *record.compaction;
    kv.insert(kv.end(), {{"rows_before", done.rows_before},
                         {"rows_after", done.rows_after},
                         {"share", done.rows_before == 0
                                       ? 1.0
                                       : static_cast<double>(done.rows_after) / static_cast<double>(done.rows_before)},
                         {"bytes_before", done.bytes_before},
                         {"bytes_after", done.bytes_after},
                         {"compactions", done.runs},
                         {"budget_chosen", done.chosen.empty() ? Json() : Json(done.chosen)},
                         {"untouched", untouched(record)},
                         {"reconstruction_s", done.reconstruction_seconds},
                         {"predicted_error", done.errors.empty() ? Json() : Json(done.error)},
                         {"predicted_error_per_layer_head", per_head(record, done.errors)}});
  }
  kv.insert(
      kv.end(),
      {{"rows_end", record.rows},
       {"bytes_end", record.bytes},
       {"bytes_peak", record.bytes_peak},
       {"bytes_full", record.bytes_full},
       {"rows_per_layer_head", record.compaction ? per_head(record, record.compaction->rows) : Json(Json::Array())},
       {"statistics", Json::Object{{"recorded", Json::Array(record.recorded.begin(), record.recorded.end())},
                                   {"bytes", record.bytes_statistics},
                                   {"seconds", record.statistics_s}}},
       {"note", record.note}});
  return kv;
}

Json time_json(const Record& record) {
  return Json::Object{{"load_s", record.load_s},
                      {"prefill_s", record.prefill_s},
                      {"compact_s", record.compact_s},
                      {"decode_s", record.generation.seconds},
                      {"first_token_s", record.first_token_s}};
}

Json model_json(const model::ModelFacts& facts) {
  return Json::Object{
      {"name", facts.name}, {"path", facts.path}, {"fingerprint", facts.fingerprint}, {"file_bytes", facts.file_bytes}};
}

}  // namespace

Record begin_record(const std::string& command, const Loaded& loaded, const engine::Session& session) {
  Record record;
  record.command = command;
  record.model = loaded.model;
  record.load_s = loaded.seconds;
  record.target = engine::simd_target();
  record.cache_type = type_text(session.key_type(), session.value_type());
  record.context = session.context();
  record.threads = session.threads();
  return record;
}

void note_compactor(Record& record, const engine::Compactor& compactor, const std::string& when) {
  record.spec = compactor.spec();
  record.compresses = compactor.active();
  record.when = when;
  record.recorded = recorded(compactor.needs());
}

void note_session(Record& record, const engine::Session& session) {
  record.rows = session.rows();
  record.bytes = session.bytes().used;
  record.bytes_peak = session.bytes().peak;
  record.bytes_full = session.bytes_per_token() * session.tokens().size();
  record.bytes_statistics = session.statistics_bytes() + session.queries_bytes();
  record.statistics_s = session.statistics_seconds();
}

void print_banner(const Record& record) {
  const model::Model& model = *record.model;
  log_info(cat("kvmerger " KVMERGER_VERSION ", ", record.target, ", ", record.threads, " threads"));
  log_info(cat("model     ", model.facts().name, " (", model.config().arch->name, ", ",
               bytes_text(model.facts().file_bytes), "), ", model.facts().path));
  log_info(cat("context   ", thousands(record.context), " tokens"));
  const engine::CompactionSpec& spec = record.spec;
  std::string policy = cat("policy ", spec.policy);
  if (!record.compresses) policy += " (full cache)";
  if (!spec.budget.empty()) policy += cat(", budget ", spec.budget, ", heads ", spec.heads, ", fit ", spec.fit);
  log_info(cat("cache     ", record.cache_type, ", ", policy));
  if (record.context > model.config().context) {
    log_warn(cat("the context of ", thousands(record.context), " tokens is larger than the model was trained for (",
                 thousands(model.config().context), "); expect worse answers beyond that"));
  }
}

void print_summary(const Record& record) {
  log_info("");
  std::string read = cat("prompt    ", thousands(record.prompt_tokens), " tokens");
  if (record.reused_tokens > 0) read += cat(", ", thousands(record.reused_tokens), " of them from ", record.snapshot);
  log_info(cat(read, "; read ", thousands(record.read_tokens), " in ", seconds_text(record.prefill_s), " (",
               rate_text(record.read_tokens, record.prefill_s), ")"));
  if (record.compaction && record.compresses) {
    const engine::CompactionReport& done = *record.compaction;
    const double share =
        done.rows_before ? static_cast<double>(done.rows_after) / static_cast<double>(done.rows_before) : 1;
    log_info(untouched(record)
                 ? cat("cache     untouched: its ", thousands(done.rows_before), " rows are within the budget")
                 : cat("cache     ", thousands(done.rows_before), " -> ", thousands(done.rows_after), " rows (",
                       share_text(share), "), ", bytes_text(done.bytes_before), " -> ", bytes_text(done.bytes_after),
                       " in ", seconds_text(record.compact_s)));
    if (!done.chosen.empty()) log_info(cat("budget    ", record.spec.budget, " came to ", done.chosen));
    if (!done.errors.empty()) {
      log_info(cat("error     ", share_text(done.error),
                   " predicted, of the attention output, root mean square over heads"));
    }
  }
  log_info(cat("KV now    ", thousands(record.rows), " rows, ", bytes_text(record.bytes), " (peak ",
               bytes_text(record.bytes_peak), "; a full cache of this text: ", bytes_text(record.bytes_full), ")"));
  if (!record.generation.finish_reason.empty()) {
    const size_t count = record.generation.tokens.size();
    log_info(cat("answer    ", thousands(count), " tokens in ", seconds_text(record.generation.seconds), " (",
                 rate_text(count, record.generation.seconds), "), ended by: ", record.generation.finish_reason));
  }
}

Json::Object setting_json(const Record& record) {
  return {{"version", KVMERGER_VERSION},    {"command", record.command}, {"model", model_json(record.model->facts())},
          {"context", record.context},      {"threads", record.threads}, {"target", record.target},
          {"peak_rss_bytes", peak_memory()}};
}

Json to_json(const Record& record) {
  const engine::Generation& made = record.generation;
  Json::Object report = setting_json(record);
  report.insert(report.end(), {{"seed", made.seed},
                               {"prompt_tokens", record.prompt_tokens},
                               {"reused_tokens", record.reused_tokens},
                               {"read_tokens", record.read_tokens},
                               {"generated_tokens", made.tokens.size()},
                               {"text", made.text},
                               {"finish_reason", made.finish_reason.empty() ? Json() : Json(made.finish_reason)},
                               {"kv", cache_json(record)},
                               {"time", time_json(record)},
                               {"speed", Json::Object{{"prefill_tps", rate(record.read_tokens, record.prefill_s)},
                                                      {"decode_tps", rate(made.tokens.size(), made.seconds)}}}});
  if (record.cut_tokens > 0) {
    report.emplace_back("truncated", Json::Object{{"tokens", record.cut_tokens}, {"where", record.cut}});
  }
  if (!record.snapshot.empty()) report.emplace_back("snapshot", record.snapshot);
  return report;
}

void write_report(const Record& record, const std::string& path) {
  if (!path.empty()) write_file(path, dump_json(to_json(record)) + "\n");
}

}  // namespace kvmerger::cli
