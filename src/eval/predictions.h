// What a run of benchmarks leaves: predictions.jsonl, one line per sample, method and budget, and run.json, what they
// were made with. Scoring reads only these.
#pragma once

#include <compare>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "engine/compactor.h"
#include "eval/json_lines.h"

namespace kvmerger::eval {

// Lines with equal keys are predictions of the same thing.
struct PredictionKey {
  std::string task, id;
  std::string method;  // as named by the user
  std::string policy, heads, fit, budget;
  std::string mode;

  auto operator<=>(const PredictionKey&) const = default;
};
PredictionKey prediction_key(const std::string& task, const std::string& id, const std::string& method,
                             const engine::CompactionSpec& spec, const std::string& mode);

// Modes: what compaction sees.
inline constexpr const char* kQuestionAgnostic = "question-agnostic";  // everything before the question
inline constexpr const char* kQuestionAware = "question-aware";        // the whole prompt

struct Prediction {
  PredictionKey key;
  uint32_t index = 0;  // of the sample in its task
  std::string text;
  std::vector<std::string> answers, classes;
  std::string metric;
  Json::Object extra;
  uint32_t prompt_tokens = 0, dropped_tokens = 0, new_tokens = 0;
  uint64_t rows_before = 0, rows = 0;  // of all heads together, when the compaction ran
  size_t bytes_full = 0, bytes = 0;    // of the cache then, without statistics
  // prefill_s: with statistics_s, what all methods that shared the reading had recorded.
  double prefill_s = 0, statistics_s = 0, compact_s = 0, decode_s = 0;
  std::vector<std::vector<uint32_t>> head_rows;  // [layers][heads] after compaction; empty for the full cache
};
Json to_json(const Prediction& prediction);

// What a file holds, which may not be there. Throws Error naming the line that is no prediction.
struct PredictionsRead {
  ResultsRead file;
  std::set<PredictionKey> keys;
};
PredictionsRead read_predictions(const std::string& path);

// run.json.
struct RunFacts {
  std::string version;
  std::vector<std::string> command;
  std::string model_path, model_name, fingerprint;
  uint32_t model_context = 0;
  std::string cpu, simd;
  uint32_t threads = 0;
  std::string mode;
  std::vector<std::string> tasks;
  Json::Array methods;  // {"method", "policy", "heads", "fit", "budget"} each
  uint32_t context = 0, seed = 0;
  std::string data, haystack;  // absolute; haystack "": the data folder's texts or the built-in one
  std::string started;
};
// Writes the file, or adds tasks, methods and the command to the one that is there. Throws Error naming the field that
// differs when that was made with another model, mode, context, seed, data or haystack: its predictions could not be
// compared.
void update_run_file(const std::string& path, const RunFacts& facts);

}  // namespace kvmerger::eval
