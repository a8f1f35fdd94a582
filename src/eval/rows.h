// Rows of results and the file of JSON lines that keeps them: one row per text, context, method and budget.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "engine/compactor.h"
#include "eval/json_lines.h"
#include "eval/tasks.h"

namespace kvmerger::eval {

// What a row is of: rows with equal keys are measurements of the same thing.
struct RowKey {
  std::string text, model, fingerprint, cache_type;
  std::string products;  // numbers that products with weights are computed in: Bench::products
  std::string method;    // as named by the user
  engine::CompactionSpec spec;
  TaskSizes sizes;

  bool operator==(const RowKey& other) const;
};

struct LineScores {
  double em = 0, em_full = 0;  // share of questions answered exactly; by the full cache
  double dnll = 0;             // NLL of the right answer, per token, minus the full cache's
};

struct Row {
  RowKey key;
  double rows_share = 0;             // rows after compaction / before, all layers and heads together
  size_t bytes = 0, bytes_full = 0;  // of the cache of the text, without statistics
  double kl = 0, dnll = 0, top1 = 0, recall_dnll = 0;
  std::optional<LineScores> lines;
  double compact_s = 0;                    // mean over the text and the record of lines
  double prefill_s = 0, statistics_s = 0;  // of the text; the second is part of the first
};

Json to_json(const Row& row);
// Throws Error saying what is missing.
Row row_from_json(const Json& json);

// The rows of a file that may not be there. Throws Error naming the line when the file is not one of rows.
struct RowsRead {
  ResultsRead file;
  std::vector<Row> rows;
};
RowsRead read_rows(const std::string& path);

// Adds rows to a file, each at once. Throws as ResultsWriter does.
class RowWriter {
 public:
  RowWriter(const std::string& path, const ResultsRead& read) : writer_(path, read) {}
  void write(const Row& row) { writer_.write(to_json(row)); }

 private:
  ResultsWriter writer_;
};

}  // namespace kvmerger::eval
