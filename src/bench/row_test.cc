#include "bench/row.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "bench/bandwidth.h"
#include "bench/machine.h"
#include "core/json.h"

namespace kvmerger::bench {
namespace {

Row some_row() {
  Row row;
  row.model = "A \"quoted\", small model";
  row.heads = 4;
  row.method = {"h2o", {"h2o", "uniform", "none", "50%"}, "stream"};
  row.test = {.prompt = 0, .generate = 16, .depth = 300};
  row.fill_seconds = 1.5;
  row.fill_compaction_seconds = 0.25;
  row.measured.speeds = {10, 20};
  row.measured.rows_read = 1000;
  row.measured.rows = 654;
  row.measured.bytes = 3 << 20;
  row.measured.bytes_peak = 5 << 20;
  row.cache_row_bytes = 256;
  row.weight_bytes = 1'000'000;
  row.bandwidth = 37.68e6;
  return row;
}

// The cells of a line of CSV, as RFC 4180 has it.
std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells{""};
  bool quoted = false;
  for (size_t at = 0; at < line.size() && line[at] != '\n'; ++at) {
    if (line[at] == '"' && quoted && line[at + 1] == '"') {
      cells.back() += line[++at];
    } else if (line[at] == '"') {
      quoted = !quoted;
    } else if (line[at] == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += line[at];
    }
  }
  return cells;
}

std::string cell(const std::string& name, const Row& row) {
  const std::vector<std::string> names = cells_of(head_text(Format::kCsv));
  const std::vector<std::string> values = cells_of(row_text(Format::kCsv, row, false));
  REQUIRE(names.size() == values.size());
  const auto found = std::ranges::find(names, name);
  REQUIRE(found != names.end());
  return values[static_cast<size_t>(found - names.begin())];
}

}  // namespace

TEST_CASE("mean and deviation of a sample") {
  const std::vector<double> values{2, 4, 4, 4, 5, 5, 7, 9};  // squares of the differences from 5 add up to 32
  CHECK(mean(values) == doctest::Approx(5));
  CHECK(deviation(values) == doctest::Approx(std::sqrt(32.0 / 7)));
  CHECK(deviation(std::vector<double>{3}) == 0.0);
}

TEST_CASE("what decoding reads: (1000 rows x 256 + 1,000,000 bytes) x 15 tokens per second, half of the bandwidth") {
  const Row row = some_row();
  CHECK(row.speed() == doctest::Approx(15));
  CHECK(row.cache_bytes_per_token() == doctest::Approx(256'000));
  CHECK(row.bytes_per_second() == doctest::Approx(1'256'000.0 * 15));
  CHECK(row.bandwidth_share() == doctest::Approx(0.5));
  CHECK(row.rows_per_head() == doctest::Approx(163.5));
  CHECK(row.fill_speed() == doctest::Approx(200));
  Row reading = row;
  reading.test = {.prompt = 16, .generate = 0, .depth = 0};
  CHECK_FALSE(reading.bytes_per_second());
  CHECK_FALSE(reading.bandwidth_share());
  CHECK_FALSE(reading.fill_speed());
}

TEST_CASE("CSV and JSON carry everything, text as it is") {
  const Row row = some_row();
  CHECK(cell("model", row) == row.model);
  CHECK(cell("test", row) == "tg16 @ d300");
  CHECK(std::stod(cell("avg_ts", row)) == doctest::Approx(15));
  CHECK(std::stod(cell("stddev_ts", row)) == doctest::Approx(std::sqrt(50.0)));
  CHECK(cell("samples_ts", row) == "[10.0,20.0]");
  CHECK(cell("budget", row) == "50%");
  CHECK(cell("n_depth", row) == "300");
  const Json::Array both = parse_json(head_text(Format::kJson) + row_text(Format::kJson, row, true) +
                                      row_text(Format::kJson, row, false) + end_text(Format::kJson))
                               .array();
  REQUIRE(both.size() == 2);
  CHECK(both[1].at("model").text() == row.model);
  CHECK(both[1].at("memory_share").number() == doctest::Approx(0.5));
  const std::string line = row_text(Format::kJsonLines, row, true);
  CHECK(std::ranges::count(line, '\n') == 1);
  CHECK(dump_json(parse_json(line)) == dump_json(both[0]));
  Row unmeasured = row;
  unmeasured.bandwidth = 0;
  CHECK(cell("memory_share", unmeasured).empty());
}

TEST_CASE("the table: bars below bars") {
  const std::string head = head_text(Format::kMarkdown), line = row_text(Format::kMarkdown, some_row(), true);
  const auto bars = [](const std::string& text) { return std::ranges::count(text, '|'); };
  CHECK(bars(head) == 2 * bars(line));
  for (const char* text : {"h2o 50% stream", "tg16 @ d300", " 163.5 ", "15.00 ± 7.07", " 3.0 ", " 5.0 ", " 0.250 ",
                           " 200.0 ", " 0.24 ", "50.0%"}) {
    CHECK_MESSAGE(line.find(text) != std::string::npos, text);
  }
}

TEST_CASE("the machine: bandwidth of any number of threads, peak memory that counts anew") {
  for (const uint32_t threads : {1U, 3U}) {
    const double speed = read_bandwidth(threads, 1 << 20);
    CHECK(speed > 0);
    CHECK(std::isfinite(speed));
  }
  constexpr size_t kLarge = size_t{64} << 20;
  {
    const std::vector<char> large(kLarge, 1);
    CHECK(std::ranges::count(large, 1) == kLarge);
  }
  const size_t peak = peak_memory();
  CHECK(peak > kLarge);
  reset_peak_memory();
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory for a while
  if (access("/proc/self/clear_refs", W_OK) == 0) CHECK(peak_memory() < peak - kLarge / 2);
#endif
}

}  // namespace kvmerger::bench
