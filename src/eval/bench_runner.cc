#include "eval/bench_runner.h"

#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "engine/generate.h"
#include "eval/bench_prompt.h"
#include "eval/full_cache.h"
#include "eval/measures.h"
#include "eval/trace.h"

namespace kvmerger::eval {
namespace {

using engine::Session;
using engine::Token;

class Answering {
 public:
  Answering(const BenchModel& model, const BenchSample& sample, const BenchListener& listener)
      : model_(model), sample_(sample), listener_(listener), prompt_(checked_prompt(model, sample)) {
    prompt_tokens_ = static_cast<uint32_t>(prompt_.size());
    if (model.question_aware) {
      prompt_.document.insert(prompt_.document.end(), prompt_.question.begin(), prompt_.question.end());
      prompt_.question.clear();
    }
    if (!sample.sample.continuation.empty()) {
      continuation_ = model.tokenizer.encode(sample.sample.continuation, false, false);
    }
    hooks_.cancelled = listener.cancelled;
  }
  void run(std::span<const Candidate* const> group);

 private:
  FullCache read(std::span<const Candidate* const> group);
  Prediction predict(const FullCache& cache, std::unique_ptr<Session> session, const Candidate& candidate);
  void answer(Session& session, Prediction& prediction);
  void score(Session& session, Prediction& prediction);

  const BenchModel& model_;
  const BenchSample& sample_;
  const BenchListener& listener_;
  engine::Prompt prompt_;
  uint32_t prompt_tokens_;
  std::vector<Token> continuation_;
  engine::RunHooks hooks_;
  bool traced_ = false;
};

FullCache Answering::read(std::span<const Candidate* const> group) {
  engine::SessionOptions options = model_.options;
  options.context = static_cast<uint32_t>(prompt_tokens_ + sample_.task.max_tokens + continuation_.size());
  options.needs = needs_of(group);
  const std::string what = cat(sample_.task.name, ' ', sample_.index);
  return read_full({model_.model, model_.tokenizer, options, what, listener_.doing, hooks_}, prompt_.document);
}

// Greedily, as the benchmarks do.
void Answering::answer(Session& session, Prediction& prediction) {
  engine::GenerateOptions options;
  options.max_tokens = static_cast<int32_t>(sample_.task.max_tokens);
  options.sampler.temperature = 0;
  options.stops = sample_.task.stops;
  const engine::Compactor full(engine::CompactionSpec{});
  engine::Keeper keeper(full, {});
  const auto sink = [](std::string_view) { return true; };
  const engine::Generation generation = engine::generate(session, model_.tokenizer, options, {}, sink, keeper, hooks_);
  if (generation.finish_reason == "interrupted") throw engine::Interrupted();
  prediction.text = generation.text;
  prediction.new_tokens = static_cast<uint32_t>(generation.tokens.size());
  prediction.decode_s = generation.seconds;
}

// How likely the continuation is, in place of an answer.
void Answering::score(Session& session, Prediction& prediction) {
  const auto start = Clock::now();
  double sum = nll(session.logits(), continuation_.front());
  const std::span<const Token> read(continuation_.data(), continuation_.size() - 1);
  session.score(
      read, [&](uint32_t at, std::span<const float> logits) { sum += nll(logits, continuation_[at + 1]); }, hooks_);
  prediction.decode_s = seconds_since(start);
  prediction.extra.emplace_back("nll", sum);
  prediction.extra.emplace_back("tokens", continuation_.size());
}

std::vector<std::vector<uint32_t>> by_layer(const std::vector<uint32_t>& rows, uint32_t heads) {
  std::vector<std::vector<uint32_t>> layers;
  for (size_t at = 0; at + heads <= rows.size(); at += heads) {
    const auto first = rows.begin() + static_cast<std::ptrdiff_t>(at);
    layers.emplace_back(first, first + heads);
  }
  return layers;
}

Prediction Answering::predict(const FullCache& cache, std::unique_ptr<Session> session, const Candidate& candidate) {
  const Sample& sample = sample_.sample;
  const engine::Compactor& compactor = candidate.compactor;
  Prediction prediction;
  prediction.key = prediction_key(sample_.task.name, sample.id, candidate.name, compactor.spec(), model_.mode());
  prediction.index = sample_.index;
  prediction.answers = sample.answers;
  prediction.classes = sample.classes;
  prediction.metric = sample_.task.metric;
  prediction.extra = sample.extra;
  prediction.prompt_tokens = prompt_tokens_;
  prediction.dropped_tokens = prompt_.cut_tokens;
  if (listener_.trace && sample_.index == 0 && compactor.active()) {
    listener_.trace(trace_record(*session, model_.tokenizer, candidate, {sample_.task.name, sample.id, !traced_}));
    traced_ = true;
  }
  prediction.bytes_full = cache_bytes(*session);
  const engine::CompactionReport report = session->compact(compactor, hooks_);
  prediction.compact_s = compaction_seconds(cache, compactor, report);
  prediction.rows_before = report.rows_before;
  prediction.rows = report.rows_after;
  prediction.bytes = cache_bytes(*session);
  if (compactor.active()) prediction.head_rows = by_layer(report.rows, model_.model->config().kv_heads);
  const auto start = Clock::now();
  session->extend(prompt_.question, false, hooks_);
  prediction.prefill_s = cache.prefill_s + seconds_since(start);
  prediction.statistics_s = cache.statistics_s;
  continuation_.empty() ? answer(*session, prediction) : score(*session, prediction);
  return prediction;
}

void Answering::run(std::span<const Candidate* const> group) {
  FullCache cache = read(group);
  for (const Candidate* candidate : group) {
    listener_.doing(
        cat(sample_.task.name, ' ', sample_.index, ": ", candidate->name, ' ', candidate->compactor.spec().budget));
    const bool last = candidate == group.back();  // needs no copy
    listener_.done(predict(cache, last ? std::move(cache.session) : cache.session->fork(), *candidate));
  }
}

}  // namespace

engine::Prompt checked_prompt(const BenchModel& model, const BenchSample& sample) {
  return build_prompt(model.tokenizer, sample.task, sample.sample, prompt_room(sample.task, model.options.context));
}

void predict(const BenchModel& model, const BenchSample& sample, std::span<const Candidate* const> candidates,
             const BenchListener& listener) {
  Answering answering(model, sample, listener);
  for (const auto& group : groups(candidates)) answering.run(group);
}

}  // namespace kvmerger::eval
