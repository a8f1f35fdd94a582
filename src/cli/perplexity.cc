// kvmerger perplexity: as llama-perplexity defines it. The text is cut into chunks of the context's size; in each, the
// tokens of the second half are scored, given all before them in the chunk, whose first token is BOS where the model
// wants one.
#include <cmath>
#include <cstdio>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cli/texts.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/log.h"

namespace kvmerger::cli {
namespace {

using engine::Token;

// Negative log-likelihoods: their number, sum and sum of squares.
struct Score {
  uint64_t count = 0;
  double sum = 0.0, squares = 0.0;

  void add(double value) {
    ++count;
    sum += value;
    squares += value * value;
  }
  double perplexity() const { return std::exp(sum / static_cast<double>(count)); }
  double uncertainty() const {  // of the perplexity, from the spread of the scores
    const double n = static_cast<double>(count), mean = sum / n, variance = squares / n - mean * mean;
    return count > 1 && variance > 0 ? std::sqrt(variance / (n - 1)) * perplexity() : 0.0;
  }
};

double negative_log_likelihood(std::span<const float> logits, Token token) {
  double most = logits[0], sum = 0.0;
  for (const float logit : logits) most = std::max(most, double{logit});
  for (const float logit : logits) sum += std::exp(double{logit} - most);
  return most + std::log(sum) - double{logits[static_cast<size_t>(token)]};
}

// tokens: one chunk. The last token of the chunk predicts nothing.
void score_chunk(const Loaded& loaded, const engine::SessionOptions& options, std::vector<Token> tokens, Score& score) {
  if (loaded.tokenizer->adds_bos()) tokens[0] = loaded.tokenizer->bos();
  engine::Session session(loaded.model, options);
  const std::span<const Token> all = tokens;
  const size_t half = tokens.size() / 2;
  const engine::RunHooks hooks{nullptr, [] { return interrupted(); }};
  session.extend(all.first(half), false, hooks);
  session.score(
      all.subspan(half),
      [&](uint32_t index, std::span<const float> logits) {
        const size_t next = half + index + 1;
        if (next < tokens.size()) score.add(negative_log_likelihood(logits, tokens[next]));
      },
      hooks);
}

struct Chunks {
  std::vector<Token> tokens;
  uint32_t size = 0, count = 0;
};

Chunks cut(const Loaded& loaded, const std::string& text, const PerplexityOptions& options) {
  Chunks chunks{loaded.tokenizer->encode(text, true, false), options.model.context, 0};
  const size_t tokens = chunks.tokens.size();
  if (chunks.size == 0) chunks.size = loaded.model->config().context;
  if (chunks.size < 4) throw UsageError("--ctx-size must be 4 or more to score anything");
  if (tokens < 2 * size_t{chunks.size}) {
    throw Error(cat("the text has ", tokens, " tokens; a context of ", chunks.size, " needs ", 2 * size_t{chunks.size},
                    " or more. Give a longer text or a smaller -c"));
  }
  chunks.count = static_cast<uint32_t>(tokens / chunks.size);
  if (options.chunks >= 0) chunks.count = std::min(chunks.count, static_cast<uint32_t>(options.chunks));
  if (chunks.count == 0) throw UsageError("--chunks 0 leaves nothing to score");
  return chunks;
}

struct Outcome {
  Score score;
  uint32_t chunks = 0;  // done
  double seconds = 0.0;
  bool closed = false;  // stdout
};

Outcome score_all(const Loaded& loaded, const engine::SessionOptions& options, const Chunks& chunks) {
  Outcome outcome;
  Answer out;
  const auto start = Clock::now();
  try {
    for (uint32_t chunk = 0; chunk < chunks.count && !outcome.closed; ++chunk) {
      const auto first = chunks.tokens.begin() + std::ptrdiff_t{chunk} * chunks.size;
      Score score = outcome.score;
      score_chunk(loaded, options, {first, first + chunks.size}, score);
      outcome.score = score;
      outcome.chunks = chunk + 1;
      outcome.seconds = seconds_since(start);
      if (chunk == 0) {
        log_info(cat(seconds_text(outcome.seconds), " per chunk; ", chunks.count, " chunks take about ",
                     seconds_text(outcome.seconds * chunks.count)));
      }
      outcome.closed = !out.write(cat("[", chunk + 1, "]", fixed(score.perplexity(), 4), ","));
    }
  } catch (const engine::Interrupted&) {
    log_warn(cat("interrupted after ", outcome.chunks, " of ", chunks.count, " chunks"));
  }
  out.end();
  if (outcome.chunks > 0 && !outcome.closed) {
    outcome.closed = !out.write(
        cat("PPL = ", fixed(outcome.score.perplexity(), 4), " +/- ", fixed(outcome.score.uncertainty(), 5), "\n"));
  }
  return outcome;
}

Json to_json(const Outcome& outcome, const Chunks& chunks, const Record& record) {
  Json::Object members = setting_json(record);
  members.emplace_back("perplexity",
                       Json::Object{{"value", outcome.chunks > 0 ? Json(outcome.score.perplexity()) : Json()},
                                    {"uncertainty", outcome.chunks > 0 ? Json(outcome.score.uncertainty()) : Json()},
                                    {"chunk_tokens", chunks.size},
                                    {"chunks", outcome.chunks},
                                    {"tokens_scored", outcome.score.count},
                                    {"text_tokens", chunks.tokens.size()},
                                    {"seconds", outcome.seconds}});
  return members;
}

}  // namespace

int perplexity(const PerplexityOptions& options) {
  check_writable(options.talk.report, "--report");
  const std::string text = read_document(options.file);
  const Loaded loaded = load_model(options.model.model, weight_layout(options.model));
  engine::SessionOptions session_options = cli::session_options(options.model, options.types);
  const Chunks chunks = cut(loaded, text, options);
  session_options.context = chunks.size;
  const Record record = begin_record("perplexity", loaded, engine::Session(loaded.model, session_options));
  print_banner(record);
  log_info(cat("text      ", thousands(chunks.tokens.size()), " tokens, ", chunks.count, " chunks of ", chunks.size));

  const Outcome outcome = score_all(loaded, session_options, chunks);
  if (!options.talk.report.empty()) write_file(options.talk.report, dump_json(to_json(outcome, chunks, record)) + "\n");
  if (outcome.closed) {
    log_warn("stdout was closed; stopped");
    return 1;
  }
  return interrupted() ? interrupted_code() : 0;
}

}  // namespace kvmerger::cli
