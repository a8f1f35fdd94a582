#include "bench/row.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>

#include "bench/machine.h"
#include "core/error.h"
#include "engine/machine.h"
#include "text/stream.h"

namespace kvmerger::bench {
namespace {

std::string fixed(double value, int digits) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string mib(double bytes) { return fixed(bytes / (1 << 20), 1); }

std::string or_dash(std::optional<double> value, double scale, int digits, const char* unit = "") {
  return value ? fixed(*value * scale, digits) + unit : "-";
}

std::string type_text(const Setting& setting) {
  const char *key = kernels::name_of(setting.key_type), *value = kernels::name_of(setting.value_type);
  return setting.key_type == setting.value_type ? key : cat(key, "/", value);
}

std::string method_text(const Method& method) {
  std::string text = method.name;
  if (!method.spec.budget.empty()) text += cat(" ", method.spec.budget);
  if (method.when != "prefill") text += cat(" ", method.when);
  return text;
}

Json or_null(std::optional<double> value) { return value ? Json(*value) : Json(); }

// A column of the table for people.
struct Column {
  const char* heading;
  size_t width;
  bool number;
  std::string (*text)(const Row&);
};

constexpr Column kColumns[] = {
    {"model", 31, false, [](const Row& row) { return row.model; }},
    {"threads", 7, true, [](const Row& row) { return cat(row.setting.threads); }},
    {"batch", 5, true, [](const Row& row) { return cat(row.setting.batch); }},
    {"cache", 5, false, [](const Row& row) { return type_text(row.setting); }},
    {"method", 16, false, [](const Row& row) { return method_text(row.method); }},
    {"test", 14, false, [](const Row& row) { return name_of(row.test); }},
    {"rows/head", 9, true, [](const Row& row) { return fixed(row.rows_per_head(), 1); }},
    {"KV MiB", 7, true, [](const Row& row) { return mib(static_cast<double>(row.measured.bytes)); }},
    {"peak MiB", 8, true, [](const Row& row) { return mib(static_cast<double>(row.measured.bytes_peak)); }},
    {"RSS MiB", 7, true, [](const Row& row) { return mib(static_cast<double>(row.measured.memory_peak)); }},
    {"fill t/s", 8, true, [](const Row& row) { return or_dash(row.fill_speed(), 1, 1); }},
    {"compact s", 9, true,
     [](const Row& row) { return fixed(row.fill_compaction_seconds + row.measured.compaction_seconds, 3); }},
    {"t/s", 15, true,
     [](const Row& row) { return cat(fixed(row.speed(), 2), " ± ", fixed(deviation(row.measured.speeds), 2)); }},
    {"MiB/token", 9, true, [](const Row& row) { return or_dash(row.cache_bytes_per_token(), 1.0 / (1 << 20), 2); }},
    {"GB/s", 5, true, [](const Row& row) { return or_dash(row.bytes_per_second(), 1e-9, 2); }},
    {"of memory's", 11, true, [](const Row& row) { return or_dash(row.bandwidth_share(), 100, 1, "%"); }},
};

size_t characters(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, text::begins_character));
}

std::string padded(const std::string& text, const Column& column) {
  const size_t width = std::max(column.width, characters(column.heading));
  const std::string space(width - std::min(width, characters(text)), ' ');
  return column.number ? space + text : text + space;
}

std::string markdown_line(const std::function<std::string(const Column&)>& cell) {
  std::string line = "|";
  for (const Column& column : kColumns) line += " " + padded(cell(column), column) + " |";
  return line + "\n";
}

std::string markdown_rule() {
  return markdown_line([](const Column& column) {
    const std::string line(std::max(column.width, characters(column.heading)) - 1, '-');
    return column.number ? line + ":" : "-" + line;
  });
}

// Everything, for programs. Names are llama-bench's where it has the same.
Json::Object fields(const Row& row) {
  const engine::CompactionSpec& spec = row.method.spec;
  return {{"version", KVMERGER_VERSION},
          {"cpu_info", cpu_name()},
          {"target", engine::simd_target()},
          {"model", row.model},
          {"model_filename", row.model_path},
          {"model_size", row.model_bytes},
          {"n_threads", row.setting.threads},
          {"n_batch", row.setting.batch},
          {"type_k", kernels::name_of(row.setting.key_type)},
          {"type_v", kernels::name_of(row.setting.value_type)},
          {"method", row.method.name},
          {"policy", spec.policy},
          {"heads", spec.heads},
          {"fit", spec.fit},
          {"budget", spec.budget},
          {"when", row.method.when},
          {"test", name_of(row.test)},
          {"n_prompt", row.test.prompt},
          {"n_gen", row.test.generate},
          {"n_depth", row.test.depth},
          {"rows_per_head", row.rows_per_head()},
          {"kv_bytes", row.measured.bytes},
          {"kv_bytes_peak", row.measured.bytes_peak},
          {"kv_bytes_full", row.full_bytes},
          {"peak_rss_bytes", row.measured.memory_peak},
          {"fill_s", row.fill_seconds},
          {"fill_ts", or_null(row.fill_speed())},
          {"fill_compaction_s", row.fill_compaction_seconds},
          {"test_compaction_s", row.measured.compaction_seconds},
          {"avg_ts", row.speed()},
          {"stddev_ts", deviation(row.measured.speeds)},
          {"samples_ts", Json::Array(row.measured.speeds.begin(), row.measured.speeds.end())},
          {"cache_bytes_per_token", or_null(row.cache_bytes_per_token())},
          {"weight_bytes_per_token", row.weight_bytes},
          {"bytes_per_s", or_null(row.bytes_per_second())},
          {"memory_bytes_per_s", row.bandwidth > 0 ? Json(row.bandwidth) : Json()},
          {"memory_share", or_null(row.bandwidth_share())}};
}

std::string csv_cell(const Json& value) {
  if (value.get<std::nullptr_t>()) return "";
  const std::string* text = value.get<std::string>();
  if (!text && !value.get<Json::Array>()) return dump_json(value, -1);
  std::string cell = "\"";
  for (const char c : text ? *text : dump_json(value, -1)) cell += c == '"' ? std::string("\"\"") : std::string(1, c);
  return cell + "\"";
}

std::string csv_line(const Json::Object& row, bool names) {
  std::string line;
  for (const auto& [name, value] : row) line += (line.empty() ? "" : ",") + (names ? name : csv_cell(value));
  return line + "\n";
}

}  // namespace

std::optional<double> Row::cache_bytes_per_token() const {
  if (test.generate == 0) return std::nullopt;
  return measured.rows_read * static_cast<double>(cache_row_bytes);
}

std::optional<double> Row::bytes_per_second() const {
  if (test.generate == 0) return std::nullopt;
  return (*cache_bytes_per_token() + static_cast<double>(weight_bytes)) * speed();
}

std::optional<double> Row::bandwidth_share() const {
  if (test.generate == 0 || bandwidth <= 0.0) return std::nullopt;
  return *bytes_per_second() / bandwidth;
}

std::optional<double> Row::fill_speed() const {
  if (test.depth == 0) return std::nullopt;
  return test.depth / fill_seconds;
}

const std::vector<std::string>& format_names() {
  static const std::vector<std::string> names{"md", "csv", "json", "jsonl"};
  return names;
}

std::string head_text(Format format) {
  switch (format) {
    case Format::kMarkdown:
      return markdown_line([](const Column& column) { return std::string(column.heading); }) + markdown_rule();
    case Format::kCsv:
      return csv_line(fields(Row()), true);
    case Format::kJson:
      return "[";
    case Format::kJsonLines:
      break;
  }
  return "";
}

std::string row_text(Format format, const Row& row, bool first) {
  switch (format) {
    case Format::kMarkdown:
      return markdown_line([&](const Column& column) { return column.text(row); });
    case Format::kCsv:
      return csv_line(fields(row), false);
    case Format::kJson:
      return cat(first ? "\n" : ",\n", dump_json(fields(row)));
    case Format::kJsonLines:
      break;
  }
  return dump_json(fields(row), -1) + "\n";
}

std::string end_text(Format format) { return format == Format::kJson ? "\n]\n" : ""; }

}  // namespace kvmerger::bench
