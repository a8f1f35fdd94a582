#include "eval/table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

constexpr const char* kHead =
    "| budget | method | policy+heads+fit | rows | cache | KL | dNLL | top-1 | recall dNLL | lines exact | lines dNLL "
    "| "
    "compaction | prefill | texts |\n"
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
constexpr const char* kFoot =
    "Means over the texts, +- the standard error of the mean. KL, dNLL: nats per token, against the full cache, on the "
    "continuation of\nthe text. recall dNLL: on passages of the text, given their first tokens. lines exact: share of "
    "questions about a record of\nlines answered to the digit (in brackets: by the full cache); lines dNLL: nats per "
    "token of the right answers, against the full\ncache. docs/quality.md has the definitions.\n";

std::string number(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 400> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

// scale: of the unit it is shown in.
std::string cell(const Mean& mean, int digits, double scale = 1.0) {
  const std::string value = number(mean.mean * scale, digits);
  return std::isfinite(mean.error) ? cat(value, " +- ", number(mean.error * scale, digits)) : value;
}

std::string escaped(const std::string& text) {  // a bar would end the cell
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string line(const Summary& summary) {
  const engine::CompactionSpec& spec = summary.key.spec;
  const bool lines = summary.key.sizes.questions > 0;
  const std::string exact = cat(cell(summary.lines_em, 2), " (", number(summary.lines_em_full.mean, 2), ")");
  constexpr double kMebibyte = 1.0 / (1 << 20);
  return cat("| ", spec.budget.empty() ? "-" : spec.budget, " | ", escaped(summary.key.method), " | ",
             escaped(spec_text(spec)), " | ", number(100 * summary.rows_share.mean, 1), " % | ",
             number(summary.bytes.mean * kMebibyte, 1), " MiB | ", cell(summary.kl, 5), " | ", cell(summary.dnll, 4),
             " | ", cell(summary.top1, 1, 100), " % | ", cell(summary.recall_dnll, 4), " | ", lines ? exact : "-",
             " | ", lines ? cell(summary.lines_dnll, 3) : "-", " | ", number(summary.compact_s.mean, 3), " s | ",
             number(summary.prefill_s.mean, 2), " s | ", summary.texts.size(), " |\n");
}

std::string heading(const Section& section) {
  const TaskSizes& sizes = section.key().sizes;
  std::vector<std::string> texts;
  for (const Summary& summary : section.summaries) {
    for (const std::string& text : summary.texts) {
      if (std::ranges::find(texts, text) == texts.end()) texts.push_back(text);
    }
  }
  std::string names;
  for (const std::string& text : texts) names += (names.empty() ? "" : ", ") + text;
  return cat("### ", title(section), "\n\nTexts: ", names, ". Cache ", section.key().cache_type, ", products ",
             section.key().products, ", continuation ", sizes.continuation, " tokens, ", sizes.passages, " passages, ",
             sizes.questions, " questions, seed ", sizes.seed, ".\n\n");
}

}  // namespace

std::string table_markdown(const std::vector<Section>& sections) {
  std::string text;
  for (const Section& section : sections) {
    text += heading(section) + kHead;
    for (const Summary& summary : section.summaries) text += line(summary);
    text += "\n";
  }
  return text + kFoot;
}

}  // namespace kvmerger::eval
