#include "eval/rows.h"

#include <cmath>
#include <string_view>
#include <tuple>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

constexpr std::string_view kBegin = "{\"text\":";  // of a row

auto fields(const RowKey& key) {
  return std::tie(key.text, key.model, key.fingerprint, key.cache_type, key.products, key.method, key.spec.policy,
                  key.spec.heads, key.spec.fit, key.spec.budget, key.sizes);
}

// A measure that is no number is null in JSON.
double measure(const Json& json, const char* key) {
  const Json& value = json.at(key);
  return value.get<std::nullptr_t>() ? NAN : value.number();
}

uint32_t count(const Json& json, const char* key) { return static_cast<uint32_t>(json.at(key).integer()); }

RowKey key_from_json(const Json& json) {
  RowKey key;
  key.text = json.at("text").text();
  key.model = json.at("model").text();
  key.fingerprint = json.at("fingerprint").text();
  key.cache_type = json.at("cache_type").text();
  key.products = json.at("products").text();
  key.method = json.at("method").text();
  const Json& budget = json.at("budget");
  key.spec = {json.at("policy").text(), json.at("heads").text(), json.at("fit").text(),
              budget.get<std::nullptr_t>() ? "" : budget.text()};
  key.sizes = {count(json, "context"), count(json, "continuation"), count(json, "passages"), count(json, "questions"),
               static_cast<uint64_t>(json.at("seed").integer())};
  return key;
}

}  // namespace

bool RowKey::operator==(const RowKey& other) const { return fields(*this) == fields(other); }

Json to_json(const Row& row) {
  const RowKey& key = row.key;
  const auto lines = [&](double LineScores::* score) { return row.lines ? Json((*row.lines).*score) : Json(); };
  return Json::Object{{"text", key.text},
                      {"model", key.model},
                      {"method", key.method},
                      {"policy", key.spec.policy},
                      {"heads", key.spec.heads},
                      {"fit", key.spec.fit},
                      {"budget", key.spec.budget.empty() ? Json() : Json(key.spec.budget)},
                      {"context", key.sizes.context},
                      {"rows_share", row.rows_share},
                      {"bytes", row.bytes},
                      {"kl", row.kl},
                      {"dnll", row.dnll},
                      {"top1", row.top1},
                      {"recall_dnll", row.recall_dnll},
                      {"lines_em", lines(&LineScores::em)},
                      {"lines_em_full", lines(&LineScores::em_full)},
                      {"lines_dnll", lines(&LineScores::dnll)},
                      {"compact_s", row.compact_s},
                      {"prefill_s", row.prefill_s},
                      {"statistics_s", row.statistics_s},
                      {"bytes_full", row.bytes_full},
                      {"continuation", key.sizes.continuation},
                      {"passages", key.sizes.passages},
                      {"questions", key.sizes.questions},
                      {"seed", key.sizes.seed},
                      {"cache_type", key.cache_type},
                      {"products", key.products},
                      {"fingerprint", key.fingerprint}};
}

Row row_from_json(const Json& json) {
  Row row;
  row.key = key_from_json(json);
  row.rows_share = measure(json, "rows_share");
  row.bytes = static_cast<size_t>(json.at("bytes").integer());
  row.bytes_full = static_cast<size_t>(json.at("bytes_full").integer());
  row.kl = measure(json, "kl");
  row.dnll = measure(json, "dnll");
  row.top1 = measure(json, "top1");
  row.recall_dnll = measure(json, "recall_dnll");
  if (row.key.sizes.questions > 0) {
    row.lines = {measure(json, "lines_em"), measure(json, "lines_em_full"), measure(json, "lines_dnll")};
  }
  row.compact_s = measure(json, "compact_s");
  row.prefill_s = measure(json, "prefill_s");
  row.statistics_s = measure(json, "statistics_s");
  return row;
}

RowsRead read_rows(const std::string& path) {
  RowsRead read;
  read.file = read_results(path, kBegin, [&](const Json& line) { read.rows.push_back(row_from_json(line)); });
  return read;
}

}  // namespace kvmerger::eval
