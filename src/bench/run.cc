#include "bench/run.h"

#include <algorithm>

#include "bench/bandwidth.h"
#include "bench/measure.h"
#include "core/error.h"
#include "core/log.h"
#include "engine/profiles.h"

namespace kvmerger::bench {
namespace {

uint32_t longest(const std::vector<uint32_t>& tokens) { return tokens.empty() ? 0 : *std::ranges::max_element(tokens); }

uint32_t longest_test(const Options& options) {
  return std::max(longest(options.prompts), longest(options.generations));
}

std::vector<Test> tests_at(const Options& options, uint32_t depth) {
  std::vector<Test> tests;
  for (const uint32_t prompt : options.prompts) tests.push_back({.prompt = prompt, .generate = 0, .depth = depth});
  for (const uint32_t count : options.generations) tests.push_back({.prompt = 0, .generate = count, .depth = depth});
  std::erase_if(tests, [](const Test& test) { return test.tokens() == 0; });
  return tests;
}

void warn_of_length(const Options& options, const model::Model& model) {
  const uint32_t most = longest(options.depths) + longest_test(options);
  if (most <= model.config().context) return;
  log_warn(cat("up to ", most, " tokens are read, more than ", model.facts().name, " was trained for (",
               model.config().context, "); speed and memory are as they would be, the text is not understood"));
}

// Keys and values of one row, without position, bias and mass, which decoding does not read.
size_t cache_row_bytes(const engine::Session& session) {
  constexpr size_t kMetadata = sizeof(int32_t) + 2 * sizeof(float);
  return session.bytes_per_token() / session.heads() - kMetadata;
}

Row make_row(const Ready& ready, const Setting& setting, const Filled& filled, const Test& test,
             const Measured& measured) {
  const model::ModelFacts& facts = ready.model->facts();
  const engine::Session& session = *filled.session;
  Row row;
  row.model = facts.name;
  row.model_path = facts.path;
  row.model_bytes = facts.file_bytes;
  row.heads = session.heads();
  row.setting = setting;
  row.setting.threads = session.threads();
  row.method = ready.method;
  row.test = test;
  row.fill_seconds = filled.seconds;
  row.fill_compaction_seconds = filled.compaction_seconds;
  row.measured = measured;
  row.full_bytes = session.bytes_per_token() * (test.depth + test.tokens());
  row.cache_row_bytes = cache_row_bytes(session);
  row.weight_bytes = ready.model->weights().decode_bytes;
  return row;
}

void measure_at(const Options& options, const Ready& ready, const Setting& setting, const EndlessText& text,
                uint32_t depth, Bandwidths& bandwidths, const Listener& listener) {
  const engine::RunHooks filling = listener.begin(cat("filling to ", depth));
  const Filled filled = fill(ready, setting, text, depth, longest_test(options), filling);
  for (const Test& test : tests_at(options, depth)) {
    const engine::RunHooks hooks = listener.begin(name_of(test));
    const Measured measured = measure(ready, filled, text, test, options.repetitions, hooks);
    Row row = make_row(ready, setting, filled, test, measured);
    if (test.generate > 0) row.bandwidth = bandwidths.of(row.setting.threads);
    listener.row(row);
  }
}

}  // namespace

void check(const Options& options) {
  if (longest_test(options) > 0) return;
  throw UsageError("nothing to measure: -p (tokens to read) and -n (tokens to generate) are both 0");
}

double Bandwidths::of(uint32_t threads) {
  const auto [place, fresh] = known_.try_emplace(threads, 0.0);
  if (fresh) place->second = read_bandwidth(threads);
  return place->second;
}

void run(const Options& options, const Subject& subject, Bandwidths& bandwidths, const Listener& listener) {
  warn_of_length(options, *subject.model);
  const EndlessText text(subject.tokenizer);
  for (const Method& method : options.methods) {
    Ready ready(method, subject.model, subject.tokenizer);
    engine::provide_profile(ready.compactor, subject.model, subject.tokenizer, options.settings.front().threads,
                            options.profile, listener.begin("calibrating"));
    for (const Setting& setting : options.settings) {
      for (const uint32_t depth : options.depths) {
        measure_at(options, ready, setting, text, depth, bandwidths, listener);
      }
    }
  }
}

}  // namespace kvmerger::bench
