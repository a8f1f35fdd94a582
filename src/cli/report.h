// What a command measured: the banner before, the summary after (both for people, on stderr) and the JSON of --report.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/load.h"
#include "core/json.h"
#include "engine/compactor.h"
#include "engine/generate.h"
#include "engine/session.h"

namespace kvmerger::cli {

struct Record {
  std::string command, snapshot;  // snapshot: the file that was written or read, or empty
  std::shared_ptr<const model::Model> model;
  std::string target, cache_type;
  uint32_t context = 0, threads = 0;
  engine::CompactionSpec spec;
  bool compresses = false;
  std::string when;
  bool question_aware = false;        // compaction saw the question
  std::vector<std::string> recorded;  // statistics kept for the policy

  uint32_t prompt_tokens = 0;  // of the whole text, whether read now or found in a snapshot
  uint32_t reused_tokens = 0, read_tokens = 0;
  uint32_t cut_tokens = 0;
  std::string cut;
  std::optional<engine::CompactionReport> compaction;
  engine::Generation generation;  // finish_reason empty: nothing was to be generated

  double load_s = 0, prefill_s = 0, compact_s = 0, first_token_s = 0;
  double statistics_s = 0;  // of prefill_s, what recording statistics took
  uint64_t rows = 0;        // at the end, as the bytes below
  size_t bytes = 0, bytes_peak = 0, bytes_full = 0, bytes_statistics = 0;
  std::string note;  // what the user should know of the cache
};

Record begin_record(const std::string& command, const Loaded& loaded, const engine::Session& session);
void note_compactor(Record& record, const engine::Compactor& compactor, const std::string& when);
void note_session(Record& record, const engine::Session& session);  // rows and bytes as they are now

void print_banner(const Record& record);
void print_summary(const Record& record);
Json::Object setting_json(const Record& record);                   // version, command, model, context, machine
Json to_json(const Record& record);                                // all of it
void write_report(const Record& record, const std::string& path);  // path empty: none

}  // namespace kvmerger::cli
