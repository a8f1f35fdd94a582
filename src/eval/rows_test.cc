#include "eval/rows.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

class Folder {
 public:
  Folder() { std::filesystem::create_directory(path_); }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_ = std::filesystem::temp_directory_path() / cat("kvmerger_rows_test_", getpid());
};

Row example(const std::string& text) {
  Row row;
  row.key = {
      text, "Model \"M\"", "0123", "f16", "f32", "h2o", {"h2o", "uniform", "none", "35%"}, {2048, 128, 5, 24, 7}};
  row.rows_share = 0.35;
  row.bytes = 12345678;
  row.bytes_full = 37048320;
  row.kl = 0.1 + 0.2;  // no short decimal
  row.dnll = -1e-9;
  row.top1 = 0.75;
  row.recall_dnll = 2.5;
  row.lines = {0.25, 0.5, 1.0 / 3};
  row.compact_s = 0.05;
  row.prefill_s = 7;
  row.statistics_s = 0.5;
  return row;
}

void append(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::app) << bytes;
}

std::string message(const std::string& path) {
  try {
    read_rows(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("rows come back from the file as they were written") {
  const Folder folder;
  const std::string path = folder.file("rows.jsonl");
  CHECK(read_rows(path).rows.empty());
  RowWriter(path, {}).write(example("one"));
  Row plain = example("two");
  plain.key.spec = {"none", "uniform", "none", ""};
  plain.key.sizes.questions = 0;
  plain.lines.reset();
  plain.kl = NAN;
  RowWriter(path, read_rows(path).file).write(plain);
  const RowsRead read = read_rows(path);
  CHECK_FALSE(read.file.damaged());
  REQUIRE(read.rows.size() == 2);
  CHECK(read.rows[0].key == example("one").key);
  CHECK(read.rows[1].key == plain.key);
  CHECK(read.rows[0].kl == 0.1 + 0.2);
  CHECK(read.rows[0].dnll == -1e-9);
  CHECK(read.rows[0].bytes == 12345678);
  REQUIRE(read.rows[0].lines);
  CHECK(read.rows[0].lines->em == 0.25);
  CHECK(read.rows[0].lines->em_full == 0.5);
  CHECK(read.rows[0].lines->dnll == 1.0 / 3);
  CHECK_FALSE(read.rows[1].lines);
  CHECK(std::isnan(read.rows[1].kl));
}

TEST_CASE("keys differ in every part that changes what is measured") {
  const RowKey key = example("one").key;
  const auto differs = [&](auto&& change) {
    RowKey other = key;
    change(other);
    return !(other == key);
  };
  CHECK(differs([](RowKey& other) { other.text = "two"; }));
  CHECK(differs([](RowKey& other) { other.fingerprint = "4567"; }));
  CHECK(differs([](RowKey& other) { other.cache_type = "f32"; }));
  CHECK(differs([](RowKey& other) { other.products = "quantised"; }));
  CHECK(differs([](RowKey& other) { other.method = "default"; }));
  CHECK(differs([](RowKey& other) { other.spec.policy = "snapkv"; }));
  CHECK(differs([](RowKey& other) { other.spec.heads = "ada"; }));
  CHECK(differs([](RowKey& other) { other.spec.fit = "ls"; }));
  CHECK(differs([](RowKey& other) { other.spec.budget = "50%"; }));
  CHECK(differs([](RowKey& other) { other.sizes.context = 1024; }));
  CHECK(differs([](RowKey& other) { other.sizes.continuation = 64; }));
  CHECK(differs([](RowKey& other) { other.sizes.passages = 4; }));
  CHECK(differs([](RowKey& other) { other.sizes.questions = 20; }));
  CHECK(differs([](RowKey& other) { other.sizes.seed = 8; }));
  CHECK_FALSE(differs([](RowKey&) {}));
}

TEST_CASE("a last line cut off anywhere is dropped, and written over") {
  const Folder folder;
  const std::string line = dump_json(to_json(example("two")), -1);
  for (const size_t cut : {size_t{1}, size_t{5}, size_t{60}, line.size()}) {
    CAPTURE(cut);
    const std::string path = folder.file(cat("rows", cut, ".jsonl"));
    RowWriter(path, {}).write(example("one"));
    append(path, line.substr(0, cut));
    const RowsRead read = read_rows(path);
    CHECK(read.rows.size() == 1);
    CHECK(read.file.damaged());
    RowWriter(path, read.file).write(example("three"));
    const RowsRead again = read_rows(path);
    CHECK_FALSE(again.file.damaged());
    REQUIRE(again.rows.size() == 2);
    CHECK(again.rows[1].key.text == "three");
  }
}

TEST_CASE("a file of something else is refused with the line") {
  const Folder folder;
  const std::string foreign = folder.file("foreign.txt"), mixed = folder.file("mixed.jsonl"),
                    unended = folder.file("unended.txt");
  append(foreign, "It was a dark night.\nAnd so on.\n");
  CHECK(message(foreign).find("foreign.txt:1:") != std::string::npos);
  RowWriter(mixed, {}).write(example("one"));
  append(mixed, "{\"text\":\"emma\",\"model\":\"M\"}\n");
  CHECK(message(mixed).find("mixed.jsonl:2:") != std::string::npos);
  CHECK(message(mixed).find("fingerprint") != std::string::npos);
  append(unended, "a text without a line break");
  CHECK(message(unended).find("unended.txt:1:") != std::string::npos);
  CHECK_THROWS_AS(RowWriter(folder.file("no/such/folder.jsonl"), {}), Error);
}

}  // namespace kvmerger::eval
