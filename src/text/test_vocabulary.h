// For tests: small GGUF files that hold a vocabulary and nothing else, written byte by byte, and where the real model
// lies.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <type_traits>
#include <vector>

namespace kvmerger::text {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) {
    std::string name = "/tmp/kvmerger_test_XXXXXX";
    const int handle = mkstemp(name.data());
    if (handle >= 0) close(handle);
    path_ = name;
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Key-value pairs in GGUF version 3 (ggml's docs/gguf.md).
class Gguf {
 public:
  Gguf& add(const std::string& key, uint32_t value) { return put(key, 4, raw(value)); }
  Gguf& add(const std::string& key, bool value) { return put(key, 7, raw(uint8_t{value})); }
  Gguf& add(const std::string& key, const std::string& value) { return put(key, 8, sized(value)); }
  Gguf& add(const std::string& key, const char* value) { return add(key, std::string(value)); }
  Gguf& add(const std::string& key, const std::vector<int32_t>& values) {
    std::string bytes = raw(uint32_t{5}) + raw(uint64_t{values.size()});
    for (const int32_t value : values) bytes += raw(value);
    return put(key, 9, bytes);
  }
  Gguf& add(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes = raw(uint32_t{8}) + raw(uint64_t{values.size()});
    for (const std::string& value : values) bytes += sized(value);
    return put(key, 9, bytes);
  }
  std::string bytes() const {
    std::string all = "GGUF" + raw(uint32_t{3}) + raw(uint64_t{0}) + raw(count_) + pairs_;
    return all + std::string(32 - all.size() % 32, '\0');
  }

 private:
  template <typename T>
  static std::string raw(T value) {
    static_assert(std::is_arithmetic_v<T>);
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }
  static std::string sized(const std::string& value) { return raw(uint64_t{value.size()}) + value; }
  Gguf& put(const std::string& key, uint32_t type, const std::string& value) {
    pairs_ += sized(key) + raw(type) + value;
    ++count_;
    return *this;
  }

  std::string pairs_;
  uint64_t count_ = 0;
};

// `size` tokens without meaning; token 3 ends a text.
inline Gguf numbered_vocabulary(uint32_t size) {
  std::vector<std::string> tokens;
  for (uint32_t id = 0; id < size; ++id) tokens.push_back("tok_" + std::to_string(id));
  Gguf file;
  file.add("general.architecture", "llama").add("tokenizer.ggml.model", "test").add("tokenizer.ggml.tokens", tokens);
  return file.add("tokenizer.ggml.eos_token_id", uint32_t{3});
}

// A SentencePiece vocabulary of all bytes: <unk>, <s>, </s>, <0x00>, ... <0xFF>; byte b is token 3 + b. It adds BOS.
inline Gguf byte_vocabulary() {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};  // unknown, control, control
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    tokens.push_back(name);
    types.push_back(6);  // byte
  }
  Gguf file;
  file.add("general.architecture", "llama").add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.tokens", tokens);
  file.add("tokenizer.ggml.token_type", types).add("tokenizer.ggml.bos_token_id", uint32_t{1});
  file.add("tokenizer.ggml.eos_token_id", uint32_t{2}).add("tokenizer.ggml.unknown_token_id", uint32_t{0});
  return file.add("tokenizer.ggml.add_bos_token", true).add("tokenizer.ggml.add_space_prefix", false);
}

// $KVMERGER_MODEL or the default model's place in the user's cache; "" when there is no such file.
inline std::string real_model() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  std::string path = variable("KVMERGER_MODEL");
  if (path.empty()) {
    const std::string cache = variable("XDG_CACHE_HOME");
    path = (cache.empty() ? variable("HOME") + "/.cache" : cache) + "/kvmerger/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  }
  return access(path.c_str(), R_OK) == 0 ? path : "";
}

}  // namespace kvmerger::text
