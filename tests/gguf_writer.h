// Writes a GGUF file into memory. The path works for everything that opens files, in this process and its children.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

struct gguf_context;

namespace kvmerger::test {

class MemoryFile {
 public:
  MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile();
  const std::string& path() const { return path_; }

 private:
  int handle_;
  std::string path_;
};

class GgufWriter {
 public:
  explicit GgufWriter(const std::string& arch);
  ~GgufWriter();

  // Metadata. A key that begins with a dot belongs to the architecture: ".block_count" is "llama.block_count".
  void set(const std::string& key, uint32_t value);
  void set(const std::string& key, float value);
  void set(const std::string& key, bool value);
  void set(const std::string& key, const std::string& value);
  void set(const std::string& key, const char* value) { set(key, std::string(value)); }
  void set(const std::string& key, const std::vector<std::string>& values);
  void set(const std::string& key, const std::vector<float>& values);
  void set(const std::string& key, const std::vector<int32_t>& values);

  // values [out][in], stored as `type`; out 1 makes a vector. `in` must be a multiple of the type's block.
  void add(const std::string& name, int64_t in, int64_t out, ggml_type type, const std::vector<float>& values);
  void write(const MemoryFile& file) const;

 private:
  std::string full(const std::string& key) const;

  std::string arch_;
  std::unique_ptr<gguf_context, void (*)(gguf_context*)> gguf_;
  std::unique_ptr<ggml_context, void (*)(ggml_context*)> descriptions_;  // of the tensors; their data are in data_
  std::deque<std::vector<uint8_t>> data_;
};

}  // namespace kvmerger::test
