#include "eval/trace.h"

#include <algorithm>
#include <cmath>

namespace kvmerger::eval {
namespace {

double rounded(double value) { return std::round(value * 1000) / 1000; }

}  // namespace

std::vector<double> similarity(std::span<const float> keys, uint32_t head_dim) {
  const size_t count = std::min<size_t>(keys.size() / head_dim, kMostCompared);
  const auto dot = [&](size_t left, size_t right) {
    double sum = 0;
    for (size_t at = 0; at < head_dim; ++at) sum += double{keys[left * head_dim + at]} * keys[right * head_dim + at];
    return sum;
  };
  std::vector<double> lengths(count), cosines(count * count);
  for (size_t key = 0; key < count; ++key) lengths[key] = std::sqrt(dot(key, key));
  for (size_t left = 0; left < count; ++left) {
    for (size_t right = 0; right < count; ++right) {
      const double both = lengths[left] * lengths[right];
      cosines[left * count + right] = both > 0 ? rounded(dot(left, right) / both) : 0;
    }
  }
  return cosines;
}

std::vector<std::vector<uint32_t>> sources(const kv::HeadPlan& plan) {
  std::vector<std::vector<uint32_t>> rows;
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    std::vector<uint32_t> own;
    for (const kv::Source& source : plan.key[row]) own.push_back(source.row);
    for (const kv::Source& source : plan.value[row]) own.push_back(source.row);
    std::ranges::sort(own);
    own.erase(std::unique(own.begin(), own.end()), own.end());
    rows.push_back(std::move(own));
  }
  return rows;
}

Json trace_record(engine::Session& session, const text::Tokenizer& tokenizer, const Candidate& candidate,
                  const Traced& traced) {
  const uint32_t layer = session.model().config().layers / 2;
  const engine::Session::HeadTrace trace = session.trace(candidate.compactor, layer, 0);
  Json::Array tokens, rows;
  for (const engine::Token token : session.tokens()) tokens.emplace_back(tokenizer.piece(token, true));
  for (const std::vector<uint32_t>& own : sources(trace.plan)) rows.emplace_back(Json::Array(own.begin(), own.end()));
  std::vector<double> cosines;
  if (traced.similarity) cosines = similarity(trace.keys, trace.head_dim);
  return Json::Object{{"task", traced.task},
                      {"id", traced.id},
                      {"method", candidate.name},
                      {"budget", candidate.compactor.spec().budget},
                      {"layer", layer},
                      {"head", 0},
                      {"tokens", tokens},
                      {"rows", rows},
                      {"similarity", Json::Array(cosines.begin(), cosines.end())}};
}

TracesRead read_traces(const std::string& path) {
  TracesRead read;
  read.file = read_results(path, "{\"task\":", [&](const Json& line) {
    line.at("similarity").array();
    read.keys.insert(
        {line.at("task").text(), line.at("id").text(), line.at("method").text(), line.at("budget").text()});
  });
  return read;
}

}  // namespace kvmerger::eval
