#include "gguf_writer.h"

#include <gguf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/error.h"

namespace kvmerger::test {
namespace {

constexpr size_t kMostTensors = 4096;

}  // namespace

MemoryFile::MemoryFile() : handle_(memfd_create("kvmerger_test", 0)) {
  if (handle_ < 0) throw Error(cat("memfd_create failed: ", std::strerror(errno)));
  path_ = cat("/proc/self/fd/", handle_);
}

MemoryFile::~MemoryFile() { close(handle_); }

GgufWriter::GgufWriter(const std::string& arch)
    : arch_(arch),
      gguf_(gguf_init_empty(), gguf_free),
      descriptions_(ggml_init({kMostTensors * ggml_tensor_overhead(), nullptr, true}), ggml_free) {
  set("general.architecture", arch);
}

GgufWriter::~GgufWriter() = default;

std::string GgufWriter::full(const std::string& key) const { return key.starts_with('.') ? arch_ + key : key; }

void GgufWriter::set(const std::string& key, uint32_t value) {
  gguf_set_val_u32(gguf_.get(), full(key).c_str(), value);
}
void GgufWriter::set(const std::string& key, float value) { gguf_set_val_f32(gguf_.get(), full(key).c_str(), value); }
void GgufWriter::set(const std::string& key, bool value) { gguf_set_val_bool(gguf_.get(), full(key).c_str(), value); }
void GgufWriter::set(const std::string& key, const std::string& value) {
  gguf_set_val_str(gguf_.get(), full(key).c_str(), value.c_str());
}

void GgufWriter::set(const std::string& key, const std::vector<std::string>& values) {
  std::vector<const char*> texts;
  for (const std::string& value : values) texts.push_back(value.c_str());
  gguf_set_arr_str(gguf_.get(), full(key).c_str(), texts.data(), texts.size());
}

void GgufWriter::set(const std::string& key, const std::vector<float>& values) {
  gguf_set_arr_data(gguf_.get(), full(key).c_str(), GGUF_TYPE_FLOAT32, values.data(), values.size());
}

void GgufWriter::set(const std::string& key, const std::vector<int32_t>& values) {
  gguf_set_arr_data(gguf_.get(), full(key).c_str(), GGUF_TYPE_INT32, values.data(), values.size());
}

void GgufWriter::add(const std::string& name, int64_t in, int64_t out, ggml_type type,
                     const std::vector<float>& values) {
  KVM_CHECK(values.size() == static_cast<size_t>(in * out) && in % ggml_blck_size(type) == 0);
  ggml_tensor* tensor = out == 1 ? ggml_new_tensor_1d(descriptions_.get(), type, in)
                                 : ggml_new_tensor_2d(descriptions_.get(), type, in, out);
  ggml_set_name(tensor, name.c_str());
  std::vector<uint8_t>& bytes = data_.emplace_back(ggml_nbytes(tensor));
  if (type == GGML_TYPE_F32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
  } else {
    KVM_CHECK(ggml_quantize_chunk(type, values.data(), bytes.data(), 0, out, in, nullptr) == bytes.size());
  }
  tensor->data = bytes.data();
  gguf_add_tensor(gguf_.get(), tensor);
}

void GgufWriter::write(const MemoryFile& file) const {
  std::FILE* stream = std::fopen(file.path().c_str(), "wb");
  const bool written = stream != nullptr && gguf_write_to_file_ptr(gguf_.get(), stream, false);
  if (stream == nullptr || std::fclose(stream) != 0 || !written) throw Error(cat("cannot write ", file.path()));
}

}  // namespace kvmerger::test
