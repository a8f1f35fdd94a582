#include "engine/keeper.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace kvmerger::engine {
namespace {

constexpr MomentEntry kMoments[] = {
    {"prefill", "once, after the document (without one: the prompt) has been read", &Moments::prefill},
    {"stream", "while the document is read, after every batch: the cache never holds more than budget + batch",
     &Moments::stream},
    {"decode", "while the answer is generated, whenever the cache is over the budget by 128 rows a head",
     &Moments::decode},
};

bool set_moment(const std::string& name, Moments& moments) {
  for (const MomentEntry& entry : kMoments) {
    if (name == entry.name) return moments.*entry.member = true;
  }
  return false;
}

CompactionReport untouched(const Session& session, const Compactor& compactor) {
  CompactionReport report;
  report.spec = compactor.spec();
  report.rows_before = report.rows_after = session.rows();
  report.bytes_before = report.bytes_after = session.bytes().used;
  report.runs = 0;
  return report;
}

}  // namespace

std::span<const MomentEntry> moments() { return kMoments; }

Moments parse_moments(const std::string& text) {
  Moments moments;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find_first_of("+,", begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    if (!set_moment(name, moments)) {
      std::string known;
      for (const MomentEntry& entry : kMoments) known += cat(known.empty() ? "" : ", ", entry.name);
      throw UsageError(cat("--kv-when '", name, "' is not known; known: ", known, " (several joined by +)"));
    }
    begin = end + 1;
  }
  return moments;
}

Keeper::Keeper(const Compactor& compactor, Moments moments) : compactor_(compactor), moments_(moments) {
  if (!moments.stream && !moments.decode) return;
  if (compactor.by_error()) {
    throw UsageError(
        cat("--kv-budget ", compactor.spec().budget, " is turned into rows once, when the whole text is known, ",
            "so it goes with --kv-when prefill only; stream and decode need a size to keep to: 2048 (rows ",
            "per head), 64MiB or 35%"));
  }
  if (!compactor.spec().budget.empty()) return;
  throw UsageError("--kv-when stream and decode need a budget to keep to: --kv-budget 2048 (rows per head) or 64MiB");
}

void Keeper::read(Session& session, std::span<const Token> tokens, const RunHooks& hooks) {
  const auto total = static_cast<uint32_t>(tokens.size());
  // Chunks of one size: a last one of a few tokens would be a poor window for policies that look at the last queries.
  const uint32_t chunks = moments_.stream ? (total + session.batch() - 1) / session.batch() : 1;
  const uint32_t chunk = (total + chunks - 1) / std::max(chunks, 1U);
  for (uint32_t done = 0; done < total;) {
    const uint32_t count = std::min(chunk, total - done);
    RunHooks part = hooks;
    if (hooks.progress) part.progress = [&](uint32_t read, uint32_t) { hooks.progress(done + read, total); };
    session.extend(tokens.subspan(done, count), true, part);
    done += count;
    const bool due = done == total ? moments_.prefill || moments_.stream : session.rows_over(compactor_) > 0;
    if (due) compact(session, {nullptr, hooks.cancelled});
  }
  if (!report_) report_ = untouched(session, compactor_);
}

void Keeper::read_on(Session& session, std::span<const Token> tokens, const RunHooks& hooks) const {
  session.extend(tokens, moments_.decode, hooks);
}

void Keeper::add(Session& session, Token token, const RunHooks& hooks) {
  session.extend(std::array{token}, moments_.decode, hooks);
  if (!moments_.decode || session.rows_over(compactor_) <= session.heads() * kSlack) return;
  compact(session, hooks);
}

void Keeper::compact(Session& session, const RunHooks& hooks) {
  if (!compactor_.active()) return;
  CompactionReport next = session.compact(compactor_, hooks);
  if (report_) {
    next.seconds += report_->seconds;
    next.reconstruction_seconds += report_->reconstruction_seconds;
    next.runs += report_->runs;
  }
  next.rows_before = uint64_t{session.heads()} * session.tokens().size();
  next.bytes_before = session.full_bytes();
  report_ = std::move(next);
}

}  // namespace kvmerger::engine
