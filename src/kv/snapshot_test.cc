#include "kv/snapshot.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "core/error.h"
#include "core/hash.h"
#include "kernels/half.h"
#include "kv/test_store.h"

namespace kvmerger::kv {
namespace {

namespace fs = std::filesystem;

// A folder that lives as long as a test.
class Folder {
 public:
  Folder() {
    std::string name = fs::temp_directory_path() / "kvmerger-snapshot-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string operator/(const char* name) const { return path_ / name; }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

SnapshotInfo test_info() {
  return {.model_fingerprint = "00112233445566778899aabbccddeeff",
          .model_name = "Toy 1B \"quoted\"",
          .about = "{\"policy\":\"kvmerger:epsilon=0.8\",\n \"text\":\"Gr\u00fc\u00dfe\"}",
          .tokens = {1, 15, -7, 2147483647, 0, 42}};
}

Store test_store(const StoreShape& shape, uint64_t seed = 1) {
  Store store(shape);
  Rng rng(seed);
  append_everywhere(store, rng, 45, 0);
  LayerPlan plan = random_eviction(store.view(0).view, rng, 0.5);
  for (HeadPlan& head : plan) head.bias[0] = 1.25F;
  store.apply(0, plan);
  return store;
}

StoreShape test_shape(RowType key = RowType::kF16, RowType value = RowType::kF16, bool stats = false) {
  return {
      .layers = 2, .heads = 2, .head_dim = 12, .key_type = key, .value_type = value, .stats = {stats, false, stats}};
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  REQUIRE(file.flush());
}

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string read_error(const std::string& path, const std::string& fingerprint = "") {
  return error_of([&] { read_snapshot(path, fingerprint); });
}

void check_contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

// No process writes files longer than this while one lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(size_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

uint64_t hash_of(const std::string& bytes) {
  Hasher hasher;
  hasher.add(bytes.data(), bytes.size());
  return hasher.digest64();
}

// The same file with a part of its header replaced and all sizes and hashes right.
std::string with_header(const std::string& bytes, const std::string& from, const std::string& to) {
  uint32_t size = 0;
  std::memcpy(&size, &bytes[12], sizeof size);
  std::string header = bytes.substr(32, size);
  REQUIRE(header.find(from) != std::string::npos);
  header.replace(header.find(from), from.size(), to);
  std::string body = header + bytes.substr(32 + size, bytes.size() - 40 - size);
  const uint64_t hash = hash_of(body), header_hash = hash_of(header), file_bytes = 32 + body.size() + 8;
  std::string preamble = bytes.substr(0, 32);
  size = static_cast<uint32_t>(header.size());
  std::memcpy(&preamble[12], &size, 4);
  std::memcpy(&preamble[16], &file_bytes, 8);
  std::memcpy(&preamble[24], &header_hash, 8);
  return preamble + body + std::string(reinterpret_cast<const char*>(&hash), 8);
}

// A written snapshot and its bytes.
struct Written {
  explicit Written(const StoreShape& shape = test_shape()) : store(test_store(shape)) {
    write_snapshot(path, test_info(), store);
    bytes = read_bytes(path);
  }

  Folder folder;
  std::string path = folder / "cache.kvm";
  Store store;
  std::string bytes;
};

}  // namespace

TEST_CASE("snapshot: what was written is read, bit by bit") {
  for (const RowType key : {RowType::kF32, RowType::kF16, RowType::kQ8}) {
    for (const RowType value : {RowType::kF32, RowType::kF16, RowType::kQ8}) {
      for (const bool stats : {false, true}) {
        const Written written(test_shape(key, value, stats));
        const Snapshot read = read_snapshot(written.path, test_info().model_fingerprint);
        CHECK(read.info.model_fingerprint == test_info().model_fingerprint);
        CHECK(read.info.model_name == test_info().model_name);
        CHECK(read.info.about == test_info().about);
        CHECK(read.info.tokens == test_info().tokens);
        CHECK(read.store.shape() == written.store.shape());
        CHECK(saved(read.store) == saved(written.store));
        CHECK(read.store.bytes().used == bytes_of_rows(written.store));
        CHECK_NOTHROW(read_snapshot(written.path, ""));
        const std::string again = written.folder / "again.kvm";
        write_snapshot(again, read.info, read.store);
        CHECK(read_bytes(again) == written.bytes);
      }
    }
  }
}

TEST_CASE("snapshot: a cache goes on after reading as if it had never been written") {
  Written written(test_shape(RowType::kF32, RowType::kF32, true));
  Snapshot read = read_snapshot(written.path, "");
  for (Store* store : {&written.store, &read.store}) {
    Rng rng(3);
    append_everywhere(*store, rng, 30, 45);
    store->apply(1, random_eviction(store->view(1).view, rng, 0.3));
  }
  CHECK(saved(read.store) == saved(written.store));
  CHECK(error_of([&] { read.store.truncate(44); }) != "");
}

TEST_CASE("snapshot: an empty cache without tokens") {
  const Folder folder;
  write_snapshot(folder / "empty.kvm", {}, Store(test_shape()));
  const Snapshot read = read_snapshot(folder / "empty.kvm", "");
  CHECK(read.info.tokens.empty());
  CHECK(read.info.about.empty());
  CHECK(read.store.total_rows() == 0);
  CHECK(read.store.bytes().used == 0);
}

TEST_CASE("snapshot: the bytes are those of docs/file-format.md") {
  const Written written(test_shape(RowType::kF32, RowType::kF16, true));
  const auto number = [&](size_t offset, auto type) {
    std::memcpy(&type, &written.bytes[offset], sizeof type);
    return type;
  };
  CHECK(written.bytes.substr(0, 8) == "KVMCACHE");
  CHECK(number(8, uint32_t{}) == 2);
  const size_t header = number(12, uint32_t{});
  CHECK(number(16, uint64_t{}) == written.bytes.size());
  CHECK(number(24, uint64_t{}) == hash_of(written.bytes.substr(32, header)));
  CHECK(number(written.bytes.size() - 8, uint64_t{}) == hash_of(written.bytes.substr(32, written.bytes.size() - 40)));
  CHECK(written.bytes[32] == '{');
  CHECK(written.bytes[32 + header - 1] == '}');
  size_t at = 32 + header;
  for (const int32_t token : test_info().tokens) {
    CHECK(number(at, int32_t{}) == token);
    at += 4;
  }
  CHECK(number(at, int32_t{}) == 45);  // rows up to here were compacted
  at += 4;
  const size_t value = 12 * 16 * 4, bias = value + 12 * 16 * 2, page = bias + 5 * 64;
  CHECK(page == page_bytes(written.store.shape()));
  for (uint32_t layer = 0; layer < 2; ++layer) {
    const Store::LayerData data = written.store.view(layer);
    for (const HeadView& head : data.view.heads) {
      REQUIRE(number(at, uint32_t{}) == head.rows());
      at += 4;
      for (uint32_t row = 0; row < head.rows(); ++row) {
        const size_t slot = row % 16, begin = at + row / 16 * page;
        for (size_t dim = 0; dim < 12; ++dim) CHECK(number(begin + (dim * 16 + slot) * 4, 0.0F) == head.key[row][dim]);
        CHECK(number(begin + bias + slot * 4, 0.0F) == head.bias[row]);
        CHECK(number(begin + bias + 64 + slot * 4, int32_t{}) == head.pos[row]);
        CHECK(number(begin + bias + 128 + slot * 4, 0.0F) == head.mass[row]);
        CHECK(number(begin + bias + 192 + slot * 4, 0.0F) == head.attn_sum[row]);
        CHECK(number(begin + bias + 256 + slot * 4, 0.0F) == head.attn_max[row]);
      }
      at += (head.rows() + 15) / 16 * page;
    }
  }
  CHECK(at + 8 == written.bytes.size());
}

TEST_CASE("snapshot: q8_0 numbers lie where docs/file-format.md says") {
  const Written written(test_shape(RowType::kQ8, RowType::kQ8, false));
  uint32_t header = 0;
  std::memcpy(&header, &written.bytes[12], sizeof header);
  const size_t page = 32 + header + 4 * test_info().tokens.size() + 4 + 4;  // the first of the first head
  const size_t value = (16 * 12 + 32 + 63) / 64 * 64;
  const Store::LayerData data = written.store.view(0);
  const HeadView& head = data.view.heads.at(0);
  const auto scale = [&](size_t part, size_t row) {
    uint16_t half = 0;
    std::memcpy(&half, &written.bytes[part + 16 * 12 + 2 * row], sizeof half);
    return kernels::float_from_half(half);
  };
  for (uint32_t row = 0; row < std::min(16U, head.rows()); ++row) {
    for (uint32_t d = 0; d < 12; ++d) {
      const auto number = [&](size_t at) { return static_cast<float>(static_cast<int8_t>(written.bytes[at])); };
      const size_t in_keys = 32 * (d / 2) + 2 * row + d % 2, in_values = 2 * 12 * (row % 8) + 2 * d + row / 8;
      CHECK(number(page + in_keys) * scale(page, row) == head.key[row][d]);
      CHECK(number(page + value + in_values) * scale(page + value, row) == head.value[row][d]);
    }
  }
}

TEST_CASE("snapshot: every damaged byte is noticed") {
  const Written written;
  const std::string path = written.folder / "damaged.kvm";
  Rng rng(5);
  std::vector<size_t> offsets;
  for (size_t offset = 0; offset < 64; ++offset) offsets.push_back(offset);
  for (size_t back = 1; back <= 16; ++back) offsets.push_back(written.bytes.size() - back);
  while (offsets.size() < 220) offsets.push_back(rng.below(static_cast<uint32_t>(written.bytes.size())));
  for (const size_t offset : offsets) {
    CAPTURE(offset);
    std::string bytes = written.bytes;
    bytes[offset] = static_cast<char>(bytes[offset] ^ static_cast<char>(1 + rng.below(255)));
    write_bytes(path, bytes);
    check_contains(read_error(path), path);
    error_of([&] { read_snapshot_info(path); });  // may or may not notice; must not crash
  }
}

TEST_CASE("snapshot: every missing end and everything appended is noticed") {
  const Written written;
  const std::string path = written.folder / "cut.kvm";
  Rng rng(6);
  std::vector<size_t> lengths = {0, 1, 7, 8, 11, 12, 16, 31, 32, 33, 39, 40, 41};
  for (size_t back = 1; back <= 12; ++back) lengths.push_back(written.bytes.size() - back);
  while (lengths.size() < 60) lengths.push_back(rng.below(static_cast<uint32_t>(written.bytes.size())));
  for (const size_t length : lengths) {
    CAPTURE(length);
    write_bytes(path, written.bytes.substr(0, length));
    check_contains(read_error(path), length < 32 ? "too short" : "cut short");
    CHECK(error_of([&] { read_snapshot_info(path); }) != "");
  }
  for (const size_t more : {size_t{1}, size_t{8}, size_t{4096}}) {
    write_bytes(path, written.bytes + std::string(more, '\0'));
    check_contains(read_error(path), "sizes do not agree");
    write_bytes(path, written.bytes + written.bytes.substr(0, more));
    check_contains(read_error(path), "sizes do not agree");
  }
}

TEST_CASE("snapshot: other files, other versions, other models") {
  const Written written;
  const std::string path = written.folder / "other.kvm";
  write_bytes(path, "GGUF" + written.bytes);
  check_contains(read_error(path), "not a kvmerger snapshot");
  std::string bytes = written.bytes;
  bytes[8] = 9;
  write_bytes(path, bytes);
  check_contains(read_error(path), "version 9");
  check_contains(read_error(path), "version 2");
  check_contains(error_of([&] { read_snapshot_info(path); }), "version 9");
  const std::string message = read_error(written.path, "ffffffff");
  check_contains(message, test_info().model_name);
  check_contains(message, test_info().model_fingerprint);
  check_contains(message, "ffffffff");
}

TEST_CASE("snapshot: headers that make no sense, with hashes that fit them") {
  const Written written;
  const std::string path = written.folder / "forged.kvm";
  const auto forged_error = [&](const std::string& from, const std::string& to) {
    write_bytes(path, with_header(written.bytes, from, to));
    const std::string message = read_error(path);
    check_contains(message, "cannot read snapshot '" + path);
    return message;
  };
  write_bytes(path, with_header(written.bytes, "\"tokens\":6", "\"new\":[],\"tokens\":6"));
  CHECK(read_error(path) == "");  // unknown keys are for later programs
  check_contains(forged_error("\"tokens\":6", "\"tokens\":-6"), "tokens");
  check_contains(forged_error("\"tokens\":6", "\"tokens\":999999999999"), "tokens");
  check_contains(forged_error("\"tokens\":6", "\"tokens\":\"6\""), "header");
  check_contains(forged_error("\"tokens\":6", "\"tokens\":6 6"), "header");
  check_contains(forged_error("\"tokens\":", "\"token\":"), "tokens");
  check_contains(forged_error("\"key_type\":1", "\"key_type\":7"), "cache type 7");
  check_contains(forged_error("[false,false,false]", "[false]"), "1 statistics instead of 3");
  check_contains(forged_error("\"layers\":2", "\"layers\":-2"), "layers cannot be -2");
  check_contains(forged_error("\"head_dim\":12", "\"head_dim\":0"), "cannot be");
  check_contains(forged_error("\"heads\":2", "\"heads\":1000"), "");  // the file ends before they do
  check_contains(forged_error("\"tokens\":6", "\"tokens\":3"), "");
}

TEST_CASE("snapshot: nothing there, or a folder") {
  const Folder folder;
  check_contains(read_error(folder / "missing.kvm"), "missing.kvm': No such file");
  check_contains(read_error(folder / ""), "not a file");
  check_contains(error_of([&] { read_snapshot_info(folder / "missing.kvm"); }), "No such file");
  check_contains(read_error("/dev/null"), "not a file");
}

TEST_CASE("snapshot: places where no file can be written") {
  const Written written;
  const auto write_error = [&](const std::string& path) {
    return error_of([&] { write_snapshot(path, test_info(), written.store); });
  };
  check_contains(write_error(written.folder / "no/such/folder.kvm"), "No such file");
  check_contains(write_error(written.folder / "cache.kvm/inside.kvm"), "Not a directory");
  fs::create_directory(written.folder / "folder");
  check_contains(write_error(written.folder / "folder"), "not a file");
  check_contains(write_error("/dev/null"), "not a file");
  CHECK(written.folder.files() == 2);
  CHECK(read_bytes(written.path) == written.bytes);
}

TEST_CASE("snapshot: a failed write leaves the old file and nothing else, wherever it stops") {
  const Written written;
  const Store bigger = test_store(test_shape(RowType::kF32, RowType::kF32), 7);
  for (const size_t limit : {size_t{0}, size_t{10}, size_t{32}, size_t{100}, size_t{4096}, size_t{10000}}) {
    CAPTURE(limit);
    {
      const FileSizeLimit full_disk(limit);
      const std::string message = error_of([&] { write_snapshot(written.path, test_info(), bigger); });
      check_contains(message, "cannot write snapshot");
      check_contains(message, "File too large");
    }
    CHECK(written.folder.files() == 1);
    CHECK(read_bytes(written.path) == written.bytes);
  }
  write_snapshot(written.path, test_info(), bigger);
  CHECK(written.folder.files() == 1);
  CHECK(saved(read_snapshot(written.path, "").store) == saved(bigger));
}

TEST_CASE("snapshot: a header that could not be read back is not written") {
  const Written written;
  SnapshotInfo info = test_info();
  info.about.assign(size_t{65} << 20, 'a');
  check_contains(error_of([&] { write_snapshot(written.path, info, written.store); }), "MiB");
  CHECK(written.folder.files() == 1);
  CHECK(read_bytes(written.path) == written.bytes);
}

TEST_CASE("snapshot: the header is read without the rows, and without their checksum") {
  const Written written;
  std::string bytes = written.bytes;
  uint32_t header = 0;
  std::memcpy(&header, &bytes[12], sizeof header);
  for (size_t offset = 32 + header; offset < bytes.size(); ++offset) bytes[offset] = 'x';
  write_bytes(written.path, bytes);
  const SnapshotInfo info = read_snapshot_info(written.path);
  CHECK(info.model_name == test_info().model_name);
  CHECK(info.model_fingerprint == test_info().model_fingerprint);
  CHECK(info.about == test_info().about);
  check_contains(read_error(written.path), "checksum");
}

}  // namespace kvmerger::kv
