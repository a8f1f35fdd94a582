#include "eval/runner.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "eval/full_cache.h"
#include "eval/measures.h"

namespace kvmerger::eval {
namespace {

using engine::Session;

// What is measured on one cache. Lines: NLL per token of the right answers, and the share answered exactly.
struct LineResult {
  double em = 0, nll = 0;
};
struct FullResult {
  Predictions continuation;
  double recall = 0;  // NLL per token
  LineResult lines;
};
struct Caches {
  FullCache text, lines;  // lines: no session when there are none
};

class Measurement {
 public:
  Measurement(const Bench& bench, const TextTasks& tasks, const Listener& listener)
      : bench_(bench), tasks_(tasks), listener_(listener) {
    hooks_.cancelled = listener.cancelled;
  }
  void run(const Candidates& group);

 private:
  FullCache read(const std::string& what, const std::vector<Token>& tokens, const engine::SessionOptions& options);
  Caches read_all(engine::SessionOptions options);
  Caches read_reference();
  void score(Session& session, std::span<const Token> tokens,
             const std::function<void(uint32_t, std::span<const float>)>& sink) {
    session.score(tokens, sink, hooks_);
  }
  FullResult measure_full(const Caches& caches);
  double recall(Session& session);
  LineResult lines(Session& session);
  Row measure(const Caches& caches, const Candidate& candidate);
  void measure_text(const FullCache& cache, const Candidate& candidate, Row& row);
  void measure_lines(const FullCache& cache, const Candidate& candidate, Row& row);

  const Bench& bench_;
  const TextTasks& tasks_;
  const Listener& listener_;
  engine::RunHooks hooks_;
  std::optional<FullResult> full_;
};

// Tokens that are read behind the context, at most.
size_t tail(const TextTasks& tasks) {
  size_t most = tasks.excerpt.continuation.size();
  for (const std::vector<Token>& passage : tasks.passages.tokens) most = std::max(most, passage.size());
  if (!tasks.lines) return most;
  for (const Question& question : tasks.lines->questions) {
    most = std::max(most, tasks.lines->common.size() + question.ask.size() + question.answer.size());
  }
  return most;
}

FullCache Measurement::read(const std::string& what, const std::vector<Token>& tokens,
                            const engine::SessionOptions& options) {
  return read_full({bench_.model, bench_.tokenizer, options, what, listener_.doing, hooks_}, tokens);
}

Caches Measurement::read_all(engine::SessionOptions options) {
  options.context = static_cast<uint32_t>(tasks_.sizes.context + tail(tasks_));
  Caches caches;
  caches.text = read(tasks_.text, tasks_.excerpt.context, options);
  if (tasks_.lines) caches.lines = read(cat(tasks_.lines->count, " lines"), tasks_.lines->record, options);
  return caches;
}

// Whether a full cache of these types is what others are compared with. f32 tells no more than f16, so that it may be.
bool is_reference(const engine::SessionOptions& options) {
  return options.key_type != kernels::RowType::kQ8 && options.value_type != kernels::RowType::kQ8;
}

// The full cache that one with q8_0 rows is compared with.
Caches Measurement::read_reference() {
  engine::SessionOptions options = bench_.options;
  options.key_type = options.value_type = kernels::RowType::kF16;
  return read_all(options);
}

FullResult Measurement::measure_full(const Caches& caches) {
  FullResult full;
  const auto text = caches.text.session->fork();
  const auto behind = static_cast<uint32_t>(text->tokens().size());
  score(*text, tasks_.excerpt.continuation,
        [&](uint32_t, std::span<const float> logits) { full.continuation.add(logits); });
  text->rewind(behind);
  full.recall = recall(*text);
  if (tasks_.lines) full.lines = lines(*caches.lines.session->fork());
  return full;
}

// NLL per token of the passages behind their cues.
double Measurement::recall(Session& session) {
  const auto behind = static_cast<uint32_t>(session.tokens().size());
  double sum = 0, count = 0;
  for (const std::vector<Token>& passage : tasks_.passages.tokens) {
    score(session, std::span(passage).first(passage.size() - 1), [&](uint32_t index, std::span<const float> logits) {
      if (index + 1 < tasks_.passages.cue) return;
      sum += nll(logits, passage[index + 1]);
      ++count;
    });
    session.rewind(behind);
  }
  return sum / count;
}

LineResult Measurement::lines(Session& session) {
  LineResult result;
  session.extend(tasks_.lines->common, false, hooks_);
  const auto behind = static_cast<uint32_t>(session.tokens().size());
  double tokens = 0;
  for (const Question& question : tasks_.lines->questions) {
    std::vector<Token> all = question.ask;
    all.insert(all.end(), question.answer.begin(), question.answer.end() - 1);
    bool exact = true;
    score(session, all, [&](uint32_t index, std::span<const float> logits) {
      if (index + 1 < question.ask.size()) return;
      const Token right = question.answer[index + 1 - question.ask.size()];
      exact = exact && argmax(logits) == static_cast<uint32_t>(right);
      result.nll += nll(logits, right);
      ++tokens;
    });
    result.em += exact ? 1 : 0;
    session.rewind(behind);
  }
  result.em /= static_cast<double>(tasks_.lines->questions.size());
  result.nll /= tokens;
  return result;
}

void Measurement::measure_text(const FullCache& cache, const Candidate& candidate, Row& row) {
  const auto session = cache.session->fork();
  const auto behind = static_cast<uint32_t>(session->tokens().size());
  row.bytes_full = cache_bytes(*session);
  const engine::CompactionReport report = session->compact(candidate.compactor, hooks_);
  row.rows_share = static_cast<double>(report.rows_after) / static_cast<double>(report.rows_before);
  row.bytes = cache_bytes(*session);
  row.compact_s = compaction_seconds(cache, candidate.compactor, report);
  row.prefill_s = cache.prefill_s;
  row.statistics_s = cache.statistics_s;
  Comparison comparison(full_->continuation, tasks_.excerpt.continuation);
  score(*session, tasks_.excerpt.continuation,
        [&](uint32_t, std::span<const float> logits) { comparison.add(logits); });
  session->rewind(behind);
  row.kl = comparison.kl();
  row.dnll = comparison.dnll();
  row.top1 = comparison.top1();
  row.recall_dnll = recall(*session) - full_->recall;
}

void Measurement::measure_lines(const FullCache& cache, const Candidate& candidate, Row& row) {
  const auto session = cache.session->fork();
  const engine::CompactionReport report = session->compact(candidate.compactor, hooks_);
  row.compact_s = (row.compact_s + compaction_seconds(cache, candidate.compactor, report)) / 2;
  const LineResult result = lines(*session);
  row.lines = {result.em, full_->lines.em, result.nll - full_->lines.nll};
}

Row Measurement::measure(const Caches& caches, const Candidate& candidate) {
  Row row;
  row.key = row_key(bench_, tasks_, candidate);
  measure_text(caches.text, candidate, row);
  if (tasks_.lines) measure_lines(caches.lines, candidate, row);
  return row;
}

void Measurement::run(const Candidates& group) {
  engine::SessionOptions options = bench_.options;
  options.needs = needs_of(group);
  const Caches caches = read_all(options);
  if (!full_) {
    listener_.doing(cat(tasks_.text, ": the full cache"));
    full_ = is_reference(options) ? measure_full(caches) : measure_full(read_reference());
  }
  for (const Candidate* candidate : group) {
    listener_.doing(cat(tasks_.text, ": ", candidate->name, " ", candidate->compactor.spec().budget));
    listener_.row(measure(caches, *candidate));
  }
}

}  // namespace

TextTasks make_tasks(const text::Tokenizer& tokenizer, const std::string& name, const std::string& text,
                     const TaskSizes& sizes) {
  TextTasks tasks{name, sizes, make_excerpt(tokenizer, name, text, sizes), {}, {}};
  tasks.passages = make_passages(tokenizer, name, tasks.excerpt.context, sizes);
  if (sizes.questions > 0) tasks.lines = make_lines(tokenizer, name, sizes);
  return tasks;
}

RowKey row_key(const Bench& bench, const TextTasks& tasks, const Candidate& candidate) {
  const model::ModelFacts& facts = bench.model->facts();
  const std::string key = kernels::name_of(bench.options.key_type), value = kernels::name_of(bench.options.value_type);
  return {tasks.text,     facts.name,     facts.fingerprint,          key == value ? key : cat(key, "/", value),
          bench.products, candidate.name, candidate.compactor.spec(), tasks.sizes};
}

void measure(const Bench& bench, const TextTasks& tasks, std::span<const Candidate* const> candidates,
             const Listener& listener) {
  Measurement measurement(bench, tasks, listener);
  for (const Candidates& group : groups(candidates)) measurement.run(group);
}

}  // namespace kvmerger::eval
