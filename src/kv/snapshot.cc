#include "kv/snapshot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"

namespace kvmerger::kv {
namespace {

constexpr char kMagic[8] = {'K', 'V', 'M', 'C', 'A', 'C', 'H', 'E'};
constexpr uint32_t kVersion = 2;
constexpr uint32_t kMostHeaderBytes = 64U << 20;

struct Preamble {  // the first bytes of every file
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;  // of the JSON header behind it
  uint64_t file_bytes;    // of the whole file
  uint64_t header_hash;   // of the header
};
static_assert(sizeof(Preamble) == 32);

std::string reason() { return std::strerror(errno); }

using File = std::unique_ptr<FILE, int (*)(FILE*)>;

// ---- Writing ----

// A file beside the wanted one, renamed onto it when complete, removed otherwise.
class NewFile {
 public:
  explicit NewFile(const std::string& path) : path_(path), temporary_(path + ".XXXXXX") {
    struct stat there{};
    if (stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) fail("it is there and is not a file");
    const int descriptor = mkostemp(temporary_.data(), O_CLOEXEC);
    if (descriptor < 0) fail(reason());
    fchmod(descriptor, 0644);
    file_.reset(fdopen(descriptor, "wb"));
  }
  ~NewFile() {
    file_.reset();
    if (!temporary_.empty()) unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(const void* data, size_t bytes) {
    if (bytes == 0) return;  // then data may be null
    if (std::fwrite(data, 1, bytes, file_.get()) != bytes) fail(reason());
    hasher_.add(data, bytes);
  }
  // Goes back to the beginning and writes the preamble that was only room until now.
  void finish(Preamble preamble) {
    const uint64_t hash = hasher_.digest64();
    if (std::fwrite(&hash, 1, sizeof hash, file_.get()) != sizeof hash) fail(reason());
    preamble.file_bytes = static_cast<uint64_t>(std::ftell(file_.get()));
    if (std::fseek(file_.get(), 0, SEEK_SET) != 0) fail(reason());  // this is what writes the rest
    if (std::fwrite(&preamble, 1, sizeof preamble, file_.get()) != sizeof preamble) fail(reason());
    if (std::fflush(file_.get()) != 0 || fsync(fileno(file_.get())) != 0) fail(reason());
    if (rename(temporary_.c_str(), path_.c_str()) != 0) fail(reason());
    temporary_.clear();
  }
  void leave_room(size_t bytes) { std::fseek(file_.get(), static_cast<long>(bytes), SEEK_SET); }

 private:
  [[noreturn]] void fail(const std::string& why) { throw Error(cat("cannot write snapshot '", path_, "': ", why)); }

  std::string path_, temporary_;
  File file_{nullptr, &std::fclose};
  Hasher hasher_;
};

Json shape_json(const StoreShape& shape) {
  Json::Array stats;
  for (const bool kept : shape.stats) stats.emplace_back(kept);
  return Json::Object{{"layers", shape.layers},
                      {"heads", shape.heads},
                      {"head_dim", shape.head_dim},
                      {"key_type", static_cast<uint32_t>(shape.key_type)},
                      {"value_type", static_cast<uint32_t>(shape.value_type)},
                      {"stats", stats}};
}

std::string header_text(const SnapshotInfo& info, const Store& store) {
  return dump_json(Json::Object{{"model_fingerprint", info.model_fingerprint},
                                {"model_name", info.model_name},
                                {"tokens", static_cast<uint64_t>(info.tokens.size())},
                                {"shape", shape_json(store.shape())},
                                {"about", info.about}},
                   -1);
}

// ---- Reading ----

class OldFile {
 public:
  explicit OldFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "rbe"), &std::fclose) {
    if (!file_) fail(reason());
    struct stat info{};
    if (fstat(fileno(file_.get()), &info) != 0 || !S_ISREG(info.st_mode)) fail("it is not a file");
    bytes_ = static_cast<uint64_t>(info.st_size);
  }

  [[noreturn]] void fail(const std::string& why) const {
    throw Error(cat("cannot read snapshot '", path_, "': ", why));
  }
  uint64_t bytes() const { return bytes_; }
  void read(void* data, size_t bytes) {
    if (bytes == 0) return;  // then data may be null
    if (std::fread(data, 1, bytes, file_.get()) != bytes) fail("it ends too early");
  }

  // The last 8 bytes must be the hash of all between them and the preamble; then goes back to where it was.
  void check_hash() {
    const long before = std::ftell(file_.get());
    if (bytes_ < sizeof(Preamble) + sizeof(uint64_t)) fail("it ends too early");
    std::fseek(file_.get(), sizeof(Preamble), SEEK_SET);
    Hasher hasher;
    std::vector<char> buffer(size_t{1} << 20);
    for (uint64_t left = bytes_ - sizeof(Preamble) - sizeof(uint64_t); left > 0;) {
      const size_t some = static_cast<size_t>(std::min<uint64_t>(left, buffer.size()));
      read(buffer.data(), some);
      hasher.add(buffer.data(), some);
      left -= some;
    }
    uint64_t expected = 0;
    read(&expected, sizeof expected);
    if (hasher.digest64() != expected)
      fail("it is damaged (its checksum does not match); make it again with kvmerger compress");
    std::fseek(file_.get(), before, SEEK_SET);
  }

 private:
  std::string path_;
  File file_;
  uint64_t bytes_ = 0;
};

struct Header {
  SnapshotInfo info;  // tokens not yet read
  uint64_t tokens = 0;
  StoreShape shape;
};

RowType row_type(int64_t number) {
  if (number < 0 || number >= std::ssize(kernels::kRowTypeNames))
    throw Error(cat("cache type ", number, " is not known"));
  return static_cast<RowType>(number);
}

uint32_t count_of(const Json& shape, const char* key) {
  const int64_t number = shape.at(key).integer();
  if (number < 0 || number > UINT32_MAX) throw Error(cat(key, " cannot be ", number));
  return static_cast<uint32_t>(number);
}

// Throws Error when the text is not a header of a file with so many bytes.
Header parse_header(const std::string& text, uint64_t file_bytes) {
  const Json json = parse_json(text);
  const Json& shape = json.at("shape");
  Header header;
  header.info.model_fingerprint = json.at("model_fingerprint").text();
  header.info.model_name = json.at("model_name").text();
  header.info.about = json.at("about").text();
  header.tokens = static_cast<uint64_t>(json.at("tokens").integer());
  if (header.tokens > file_bytes / sizeof(int32_t)) throw Error("the file has no room for its tokens");
  header.shape.layers = count_of(shape, "layers");
  header.shape.heads = count_of(shape, "heads");
  header.shape.head_dim = count_of(shape, "head_dim");
  header.shape.key_type = row_type(shape.at("key_type").integer());
  header.shape.value_type = row_type(shape.at("value_type").integer());
  const Json::Array& stats = shape.at("stats").array();
  if (stats.size() != kStats) throw Error(cat(stats.size(), " statistics instead of ", kStats));
  for (uint32_t stat = 0; stat < kStats; ++stat) header.shape.stats[stat] = stats[stat].boolean();
  return header;
}

Header read_header(OldFile& file) {
  Preamble preamble{};
  if (file.bytes() < sizeof preamble) file.fail("it is not a kvmerger snapshot (too short)");
  file.read(&preamble, sizeof preamble);
  if (std::memcmp(preamble.magic, kMagic, sizeof kMagic) != 0) file.fail("it is not a kvmerger snapshot");
  if (preamble.version != kVersion) {
    file.fail(cat("it has format version ", preamble.version, ", this program reads version ", kVersion,
                  "; make it again with kvmerger compress"));
  }
  if (file.bytes() < preamble.file_bytes) {
    file.fail(cat("it is cut short: ", file.bytes(), " of ", preamble.file_bytes, " bytes are there; copy it again"));
  }
  if (file.bytes() > preamble.file_bytes || preamble.header_bytes > kMostHeaderBytes ||
      preamble.header_bytes + sizeof preamble > file.bytes()) {
    file.fail("it is damaged (its sizes do not agree); make it again with kvmerger compress");
  }
  std::string text(preamble.header_bytes, '\0');
  file.read(text.data(), text.size());
  Hasher hasher;
  hasher.add(text.data(), text.size());
  if (hasher.digest64() != preamble.header_hash) {
    file.fail("it is damaged (its header's checksum does not match); make it again with kvmerger compress");
  }
  try {
    return parse_header(text, file.bytes());
  } catch (const Error& error) {
    file.fail(cat("its header is not valid: ", error.what()));
  }
}

}  // namespace

void write_snapshot(const std::string& path, const SnapshotInfo& info, const Store& store) {
  const std::string header = header_text(info, store);
  if (header.size() > kMostHeaderBytes) {
    throw Error(cat("cannot write snapshot '", path, "': its header has ", header.size() >> 20, " MiB, ",
                    kMostHeaderBytes >> 20, " MiB are allowed"));
  }
  Preamble preamble{};
  std::memcpy(preamble.magic, kMagic, sizeof kMagic);
  preamble.version = kVersion;
  preamble.header_bytes = static_cast<uint32_t>(header.size());
  Hasher hasher;
  hasher.add(header.data(), header.size());
  preamble.header_hash = hasher.digest64();

  NewFile file(path);
  file.leave_room(sizeof preamble);
  file.write(header.data(), header.size());
  file.write(info.tokens.data(), info.tokens.size() * sizeof(int32_t));
  store.save([&](const void* data, size_t bytes) { file.write(data, bytes); });
  file.finish(preamble);
}

SnapshotInfo read_snapshot_info(const std::string& path) {
  OldFile file(path);
  return read_header(file).info;
}

Snapshot read_snapshot(const std::string& path, const std::string& expected_fingerprint) {
  OldFile file(path);
  Header header = read_header(file);
  if (!expected_fingerprint.empty() && header.info.model_fingerprint != expected_fingerprint) {
    file.fail(cat("it was made with another model: '", header.info.model_name, "', fingerprint ",
                  header.info.model_fingerprint, ", but the model given has ", expected_fingerprint,
                  "; give the right one with -m"));
  }
  file.check_hash();
  header.info.tokens.resize(header.tokens);
  file.read(header.info.tokens.data(), header.tokens * sizeof(int32_t));
  try {
    Snapshot snapshot{std::move(header.info), Store(header.shape)};
    snapshot.store.load([&](void* data, size_t bytes) { file.read(data, bytes); });
    return snapshot;
  } catch (const Error& error) {  // of the store, which knows no file
    file.fail(error.what());
  }
}

}  // namespace kvmerger::kv
