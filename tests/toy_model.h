// Random models of a few thousand weights in a GGUF file in memory: the same parameters give the same bytes. libllama
// loads them as it would a real model, so that any program's logits on them can be compared with its own.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <functional>
#include <string>

#include "gguf_writer.h"

namespace kvmerger::test {

struct ToyRope {
  enum Scaling { kNone, kLinear, kYarn, kLlama3 } scaling = kNone;  // kLlama3: for arch llama only
  float base = 10000.0F;
  float factor = 4.0F;
  uint32_t original_context = 64;  // for yarn
};

struct ToyParams {
  std::string arch = "llama";  // llama | qwen2 | qwen3
  uint32_t n_layer = 2, n_embd = 64, n_head = 4, n_head_kv = 2;
  uint32_t head_dim = 0;  // 0: n_embd / n_head
  uint32_t n_ff = 128, n_vocab = 128, n_ctx = 4096;
  bool qkv_bias = false;
  bool tied = false;  // the output matrix is the embedding
  ToyRope rope;
  ggml_type type = GGML_TYPE_F32;  // of the matrices; n_embd, n_ff and the heads' total must be multiples of its block
  uint64_t seed = 1;
  std::function<void(GgufWriter&)> vocabulary;  // writes the tokenizer; none: the one libllama keeps for tests
};

class ToyModel {
 public:
  explicit ToyModel(const ToyParams& params);
  const std::string& path() const { return file_.path(); }

 private:
  MemoryFile file_;
};

}  // namespace kvmerger::test
