// A row of results, and how it is written: as a line of a table, CSV or JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "bench/setting.h"
#include "core/json.h"

namespace kvmerger::bench {

struct Row {
  std::string model, model_path;
  uint64_t model_bytes = 0;
  uint32_t heads = 0;  // KV heads of all layers
  Setting setting;     // with the threads there are
  Method method;
  Test test;
  double fill_seconds = 0.0, fill_compaction_seconds = 0.0;
  Measured measured;
  size_t full_bytes = 0;       // of a full cache of as many tokens as there were at the end
  size_t cache_row_bytes = 0;  // keys and values of one row
  size_t weight_bytes = 0;     // read for every token
  double bandwidth = 0.0;      // bytes per second that memory gives to as many threads; 0: not measured

  double speed() const { return mean(measured.speeds); }
  double rows_per_head() const { return static_cast<double>(measured.rows) / heads; }
  // Generating only: of the cache, for one token; bytes per second of cache and weights; its share of the bandwidth.
  std::optional<double> cache_bytes_per_token() const;
  std::optional<double> bytes_per_second() const;
  std::optional<double> bandwidth_share() const;
  std::optional<double> fill_speed() const;  // tokens per second of reading up to the depth; none at depth 0
};

enum class Format { kMarkdown, kCsv, kJson, kJsonLines };
// md, csv, json, jsonl.
const std::vector<std::string>& format_names();  // in the order of Format

std::string head_text(Format format);  // ahead of the rows
std::string row_text(Format format, const Row& row, bool first);
std::string end_text(Format format);

}  // namespace kvmerger::bench
