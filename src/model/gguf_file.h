// A GGUF file opened read-only: metadata with typed access, tensors in place by mmap. Refuses what is not a whole GGUF.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct gguf_context;
struct ggml_context;
struct ggml_tensor;

namespace kvmerger::model {

class GgufFile {
 public:
  // Throws Error: missing, unreadable, not GGUF, damaged metadata, or shorter than its tensors (says how many bytes).
  explicit GgufFile(const std::string& path);
  ~GgufFile();

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return size_; }

  // Metadata. The plain forms throw Error naming the key when it is absent or of another kind.
  bool has(const std::string& key) const;
  std::string text(const std::string& key) const;
  uint32_t whole(const std::string& key) const;
  float real(const std::string& key) const;
  std::string text_or(const std::string& key, std::string fallback) const;
  uint32_t whole_or(const std::string& key, uint32_t fallback) const;
  float real_or(const std::string& key, float fallback) const;
  uint32_t array_length_or(const std::string& key, uint32_t fallback) const;

  std::vector<std::string> tensor_names() const;
  // A tensor whose data lies in the mapped file; null when there is none of this name.
  ggml_tensor* tensor(const std::string& name) const;
  // Lets go of the memory that the data of one of its tensors take in this process; who reads them again gets them from
  // the file again.
  void release(const ggml_tensor& tensor) const noexcept;

  // 32 hex digits from the metadata, the tensor table and samples of every tensor's data.
  std::string fingerprint() const;

 private:
  int64_t find(const std::string& key) const;
  int64_t need(const std::string& key) const;
  void map();
  void place_tensors();

  std::string path_;
  uint64_t size_ = 0;
  void* mapped_ = nullptr;
  gguf_context* gguf_ = nullptr;
  ggml_context* context_ = nullptr;
};

}  // namespace kvmerger::model
