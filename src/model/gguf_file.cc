#include "model/gguf_file.h"

#include <fcntl.h>
#include <ggml.h>
#include <gguf.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"

namespace kvmerger::model {
namespace {

// ggml's own talk is for -v only.
void talk(ggml_log_level, const char* text, void*) {
  std::string_view line(text);
  while (line.ends_with('\n')) line.remove_suffix(1);
  if (!line.empty()) log_debug(cat("ggml: ", line));
}

// ggml prints what it finds wrong; keep the first line, which names the cause, for our own message.
class FirstGgmlError {
 public:
  FirstGgmlError() { ggml_log_set(&record, &text_); }
  ~FirstGgmlError() { ggml_log_set(&talk, nullptr); }
  std::string text() const {
    std::string line = text_;
    while (!line.empty() && line.back() == '\n') line.pop_back();
    return line;
  }

 private:
  static void record(ggml_log_level level, const char* text, void* data) {
    auto& first = *static_cast<std::string*>(data);
    if (level == GGML_LOG_LEVEL_ERROR && first.empty()) first = text;
  }
  std::string text_;
};

uint64_t file_size(const std::string& path) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) throw Error(cat("cannot open model '", path, "': ", std::strerror(errno)));
  if (!S_ISREG(info.st_mode)) throw Error(cat("model '", path, "' is not a file"));
  return static_cast<uint64_t>(info.st_size);
}

void check_magic(const std::string& path) {
  char magic[4] = {};
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error(cat("cannot open model '", path, "': ", std::strerror(errno)));
  const ssize_t got = read(file, magic, sizeof magic);
  close(file);
  if (got != sizeof magic || std::memcmp(magic, "GGUF", 4) != 0) {
    throw Error(cat(
        "'", path,
        "' is not a GGUF model (it does not begin with 'GGUF'); convert it with llama.cpp's convert_hf_to_gguf.py"));
  }
}

}  // namespace

GgufFile::GgufFile(const std::string& path) : path_(path), size_(file_size(path)) {
  check_magic(path);
  const FirstGgmlError ggml_error;
  gguf_ = gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = &context_});
  if (!gguf_) throw Error(cat("model '", path, "' is damaged or cut short: ", ggml_error.text()));
  try {
    map();
    place_tensors();
  } catch (...) {
    if (mapped_) munmap(mapped_, size_);
    ggml_free(context_);
    gguf_free(gguf_);
    throw;
  }
}

GgufFile::~GgufFile() {
  munmap(mapped_, size_);
  ggml_free(context_);
  gguf_free(gguf_);
}

void GgufFile::map() {
  const int file = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  void* mapped = file < 0 ? MAP_FAILED : mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
  const int error = errno;
  if (file >= 0) close(file);
  if (mapped == MAP_FAILED) throw Error(cat("cannot map model '", path_, "': ", std::strerror(error)));
  mapped_ = mapped;
}

void GgufFile::place_tensors() {
  const uint64_t data = gguf_get_data_offset(gguf_);
  if (gguf_get_alignment(gguf_) % 8 != 0) {  // the format's rule, which ggml's reader does not enforce
    throw Error(cat("model '", path_, "' is damaged: its tensors are aligned to ", gguf_get_alignment(gguf_),
                    " bytes, not to a multiple of 8"));
  }
  for (int64_t id = 0; id < gguf_get_n_tensors(gguf_); ++id) {
    const char* name = gguf_get_tensor_name(gguf_, id);
    const uint64_t begin = data + gguf_get_tensor_offset(gguf_, id);
    const uint64_t bytes = gguf_get_tensor_size(gguf_, id);
    if (begin > size_ || bytes > size_ - begin) {
      throw Error(cat("model '", path_, "' is cut short: tensor '", name, "' ends at byte ", begin + bytes,
                      " but the file has ", size_, "; download it again"));
    }
    ggml_tensor* tensor = ggml_get_tensor(context_, name);
    if (tensor->data) throw Error(cat("model '", path_, "' is damaged: two tensors are called '", name, "'"));
    tensor->data = static_cast<char*>(mapped_) + begin;
  }
}

void GgufFile::release(const ggml_tensor& tensor) const noexcept {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data), end = begin + ggml_nbytes(&tensor);
  const auto mapped = reinterpret_cast<uintptr_t>(mapped_);
  KVM_CHECK(begin >= mapped && end <= mapped + size_);                                 // anything else would be lost
  const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;  // whole pages of its own
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

int64_t GgufFile::find(const std::string& key) const { return gguf_find_key(gguf_, key.c_str()); }

int64_t GgufFile::need(const std::string& key) const {
  const int64_t id = find(key);
  if (id < 0) throw Error(cat("model '", path_, "' lacks the metadata key '", key, "'"));
  return id;
}

bool GgufFile::has(const std::string& key) const { return find(key) >= 0; }

std::string GgufFile::text(const std::string& key) const {
  const int64_t id = need(key);
  if (gguf_get_kv_type(gguf_, id) != GGUF_TYPE_STRING)
    throw Error(cat("model '", path_, "': key '", key, "' is not text"));
  return gguf_get_val_str(gguf_, id);
}

uint32_t GgufFile::whole(const std::string& key) const {
  const int64_t id = need(key);
  int64_t value = -1;
  switch (gguf_get_kv_type(gguf_, id)) {
    case GGUF_TYPE_UINT8:
      value = gguf_get_val_u8(gguf_, id);
      break;
    case GGUF_TYPE_UINT16:
      value = gguf_get_val_u16(gguf_, id);
      break;
    case GGUF_TYPE_UINT32:
      value = gguf_get_val_u32(gguf_, id);
      break;
    case GGUF_TYPE_INT32:
      value = gguf_get_val_i32(gguf_, id);
      break;
    case GGUF_TYPE_UINT64:
      value = static_cast<int64_t>(gguf_get_val_u64(gguf_, id));
      break;
    case GGUF_TYPE_INT64:
      value = gguf_get_val_i64(gguf_, id);
      break;
    default:
      break;
  }
  if (value < 0 || value > UINT32_MAX)
    throw Error(cat("model '", path_, "': key '", key, "' is not a whole number in range"));
  return static_cast<uint32_t>(value);
}

float GgufFile::real(const std::string& key) const {
  const int64_t id = need(key);
  switch (gguf_get_kv_type(gguf_, id)) {
    case GGUF_TYPE_FLOAT32:
      return gguf_get_val_f32(gguf_, id);
    case GGUF_TYPE_FLOAT64:
      return static_cast<float>(gguf_get_val_f64(gguf_, id));
    default:
      throw Error(cat("model '", path_, "': key '", key, "' is not a number"));
  }
}

std::string GgufFile::text_or(const std::string& key, std::string fallback) const {
  return has(key) ? text(key) : fallback;
}
uint32_t GgufFile::whole_or(const std::string& key, uint32_t fallback) const {
  return has(key) ? whole(key) : fallback;
}
float GgufFile::real_or(const std::string& key, float fallback) const { return has(key) ? real(key) : fallback; }

uint32_t GgufFile::array_length_or(const std::string& key, uint32_t fallback) const {
  const int64_t id = find(key);
  if (id < 0 || gguf_get_kv_type(gguf_, id) != GGUF_TYPE_ARRAY) return fallback;
  return static_cast<uint32_t>(gguf_get_arr_n(gguf_, id));
}

std::vector<std::string> GgufFile::tensor_names() const {
  std::vector<std::string> names;
  for (int64_t id = 0; id < gguf_get_n_tensors(gguf_); ++id) names.emplace_back(gguf_get_tensor_name(gguf_, id));
  return names;
}

ggml_tensor* GgufFile::tensor(const std::string& name) const { return ggml_get_tensor(context_, name.c_str()); }

std::string GgufFile::fingerprint() const {
  constexpr size_t kSample = 256;
  const char* bytes = static_cast<const char*>(mapped_);
  Hasher hasher;
  hasher.add(bytes, gguf_get_data_offset(gguf_));
  for (int64_t id = 0; id < gguf_get_n_tensors(gguf_); ++id) {
    const char* data = bytes + gguf_get_data_offset(gguf_) + gguf_get_tensor_offset(gguf_, id);
    const size_t size = gguf_get_tensor_size(gguf_, id), sample = std::min(kSample, size);
    hasher.add(data, sample);
    hasher.add(data + (size - sample) / 2, sample);
    hasher.add(data + size - sample, sample);
  }
  return hasher.digest128_hex();
}

}  // namespace kvmerger::model
