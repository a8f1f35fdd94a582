// Rows put together over texts: means with their standard errors, in the order of tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/rows.h"

namespace kvmerger::eval {

struct Mean {
  double mean = 0;
  double error = 0;    // standard error of the mean; NaN for fewer than two values
  uint32_t count = 0;  // values; 0: none, and the mean is NaN
};
Mean mean_of(const std::vector<double>& values);

// One method at one budget on all texts.
struct Summary {
  RowKey key;  // its text is empty
  std::vector<std::string> texts;
  Mean rows_share, bytes, kl, dnll, top1, recall_dnll, lines_em, lines_em_full, lines_dnll, compact_s, prefill_s;
};

// What can be compared: one model, context and way of measuring. Larger budgets first; of one budget, lower KL first.
struct Section {
  std::vector<Summary> summaries;  // at least one

  const RowKey& key() const { return summaries.front().key; }
};
std::vector<Section> summarise(const std::vector<Row>& rows);

// "Model, context 2048"
std::string title(const Section& section);
// `policy+heads+fit`
std::string spec_text(const engine::CompactionSpec& spec);

}  // namespace kvmerger::eval
