#include "eval/summary.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <tuple>
#include <utility>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

using Group = std::vector<const Row*>;

// Rows by what `key` makes equal, both in the order in which they appear.
std::vector<Group> grouped(const Group& rows, const std::function<RowKey(const Row&)>& key) {
  std::vector<std::pair<RowKey, Group>> groups;
  for (const Row* row : rows) {
    const auto found = std::ranges::find(groups, key(*row), &std::pair<RowKey, Group>::first);
    if (found == groups.end()) {
      groups.push_back({key(*row), {row}});
    } else {
      found->second.push_back(row);
    }
  }
  std::vector<Group> result;
  for (auto& [unused, group] : groups) result.push_back(std::move(group));
  return result;
}

RowKey without_text(const Row& row) {
  RowKey key = row.key;
  key.text.clear();
  return key;
}

RowKey without_method(const Row& row) {
  RowKey key = without_text(row);
  key.method.clear();
  key.spec = {};
  return key;
}

Summary summarise_group(const Group& rows) {
  Summary summary;
  summary.key = without_text(*rows.front());
  for (const Row* row : rows) summary.texts.push_back(row->key.text);
  const auto over = [&](auto&& value) {
    std::vector<double> values;
    for (const Row* row : rows) values.push_back(static_cast<double>(value(*row)));
    return mean_of(values);
  };
  const auto lines = [&](double LineScores::* score) {
    return over([&](const Row& row) { return row.lines ? (*row.lines).*score : NAN; });
  };
  summary.rows_share = over([](const Row& row) { return row.rows_share; });
  summary.bytes = over([](const Row& row) { return row.bytes; });
  summary.kl = over([](const Row& row) { return row.kl; });
  summary.dnll = over([](const Row& row) { return row.dnll; });
  summary.top1 = over([](const Row& row) { return row.top1; });
  summary.recall_dnll = over([](const Row& row) { return row.recall_dnll; });
  summary.lines_em = lines(&LineScores::em);
  summary.lines_em_full = lines(&LineScores::em_full);
  summary.lines_dnll = lines(&LineScores::dnll);
  summary.compact_s = over([](const Row& row) { return row.compact_s; });
  summary.prefill_s = over([](const Row& row) { return row.prefill_s; });
  return summary;
}

// Budgets are told apart by how they are written, and ordered by the rows they leave.
void sort_by_budget(std::vector<Summary>& summaries) {
  std::map<std::string, double> most;
  for (const Summary& summary : summaries) {
    double& share = most[summary.key.spec.budget];
    share = std::max(share, summary.rows_share.mean);
  }
  const auto order = [&](const Summary& summary) {
    const std::string& budget = summary.key.spec.budget;
    return std::tuple(-most[budget], budget, summary.kl.mean);
  };
  std::ranges::stable_sort(summaries, [&](const auto& left, const auto& right) { return order(left) < order(right); });
}

}  // namespace

Mean mean_of(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = values.empty() ? NAN : sum / count;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double error = values.size() < 2 ? NAN : std::sqrt(squares / (count - 1) / count);
  return {mean, error, static_cast<uint32_t>(values.size())};
}

std::vector<Section> summarise(const std::vector<Row>& rows) {
  Group all;
  for (const Row& row : rows) all.push_back(&row);
  std::vector<Section> sections;
  for (const Group& section : grouped(all, without_method)) {
    sections.emplace_back();
    for (const Group& group : grouped(section, without_text)) {
      sections.back().summaries.push_back(summarise_group(group));
    }
    sort_by_budget(sections.back().summaries);
  }
  std::ranges::stable_sort(
      sections, {}, [](const Section& section) { return std::pair(section.key().model, section.key().sizes.context); });
  return sections;
}

std::string title(const Section& section) {
  return cat(section.key().model, ", context ", section.key().sizes.context);
}

std::string spec_text(const engine::CompactionSpec& spec) { return cat(spec.policy, "+", spec.heads, "+", spec.fit); }

}  // namespace kvmerger::eval
