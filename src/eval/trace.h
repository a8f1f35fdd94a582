// What compaction makes of one head's tokens, for figures: traces.jsonl.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/json.h"
#include "engine/session.h"
#include "eval/candidates.h"
#include "eval/json_lines.h"
#include "text/tokenizer.h"

namespace kvmerger::eval {

inline constexpr uint32_t kMostCompared = 256;  // keys, from the first on

// [n * n] cosines of the first n = kMostCompared keys at most, by row, rounded to three digits. keys: [rows, head_dim].
std::vector<double> similarity(std::span<const float> keys, uint32_t head_dim);

// Of each surviving row, the old rows it is made of, keys and values together, in order.
std::vector<std::vector<uint32_t>> sources(const kv::HeadPlan& plan);

// Of which sample, and whether the similarity of its keys is told too: it is the same for every candidate.
struct Traced {
  const std::string& task;
  const std::string& id;
  bool similarity = true;
};
// A line of traces.jsonl: the first KV head of the middle layer, before the session is compacted. The session holds
// every token it has seen as a row of its own.
Json trace_record(engine::Session& session, const text::Tokenizer& tokenizer, const Candidate& candidate,
                  const Traced& traced);

// What the file holds. Throws Error when it is not one of traces.
struct TracesRead {
  ResultsRead file;
  std::set<std::array<std::string, 4>> keys;  // task, id, method, budget
};
TracesRead read_traces(const std::string& path);

}  // namespace kvmerger::eval
