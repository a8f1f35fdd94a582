#include "eval/rows.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
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

Error cannot(const char* what, const std::string& path) {
  return Error(cat("cannot ", what, " ", path, ": ", std::strerror(errno)));
}

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw cannot("read", path);
  std::ostringstream bytes;
  if (file.peek() != std::ifstream::traits_type::eof()) bytes << file.rdbuf();
  return std::move(bytes).str();
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
  if (!std::filesystem::exists(path)) return read;
  const std::string bytes = read_all(path);
  for (size_t number = 1, end; (end = bytes.find('\n', read.whole)) != std::string::npos; ++number) {
    try {
      read.rows.push_back(row_from_json(parse_json(std::string_view(bytes).substr(read.whole, end - read.whole))));
    } catch (const Error& error) {
      throw Error(cat(path, ":", number, ": this is no row of results (", error.what(),
                      "); name another file with -o, or delete the line"));
    }
    read.whole = end + 1;
  }
  read.damaged = read.whole < bytes.size();
  // What an interrupted write leaves is the beginning of a row. Anything else was written by another program.
  const std::string_view rest = std::string_view(bytes).substr(read.whole);
  if (rest.substr(0, kBegin.size()) != kBegin.substr(0, rest.size())) {
    throw Error(cat(path, ":", read.rows.size() + 1, ": this is no row of results; name another file with -o"));
  }
  return read;
}

RowWriter::RowWriter(const std::string& path, size_t whole)
    : path_(path), file_(std::fopen(path.c_str(), "ab"), &std::fclose) {
  if (!file_ || ftruncate(fileno(file_.get()), static_cast<off_t>(whole)) != 0) throw cannot("write", path);
}

void RowWriter::write(const Row& row) {
  const std::string line = dump_json(to_json(row), -1) + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size();
  if (!written || std::fflush(file_.get()) != 0) throw cannot("write", path_);
}

}  // namespace kvmerger::eval
