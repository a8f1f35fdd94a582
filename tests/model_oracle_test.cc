// Our logits against libllama's on toy models of every architecture, and the errors of files that cannot be used.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "dequantised.h"
#include "engine/session.h"
#include "measures.h"
#include "model/model.h"
#include "oracle.h"
#include "toy_model.h"

namespace kvmerger::test {
namespace {

constexpr double kSame = 1e-6;  // NMSE of logits

std::vector<float> our_logits(const std::string& path, const std::vector<int32_t>& tokens, bool token_by_token) {
  engine::SessionOptions options;
  options.key_type = options.value_type = kernels::RowType::kF32;
  options.threads = 1;  // small work: a second thread would only wait
  engine::Session session(std::make_shared<const model::Model>(path), options);
  std::vector<float> logits;
  const auto add = [&](std::span<const float> row) { logits.insert(logits.end(), row.begin(), row.end()); };
  if (token_by_token) {
    for (const int32_t token : tokens) {
      session.extend(std::vector<int32_t>{token});
      add(session.logits());
    }
  } else {
    session.score(tokens, [&](uint32_t, std::span<const float> row) { add(row); });
  }
  return logits;
}

void check_same(const ToyParams& params) {
  CAPTURE(params.arch);
  CAPTURE(params.n_head);
  CAPTURE(params.n_head_kv);
  CAPTURE(params.qkv_bias);
  CAPTURE(params.tied);
  CAPTURE(static_cast<int>(params.rope.scaling));
  const ToyModel file(params);
  const std::vector<int32_t> tokens = random_tokens(70, params.n_vocab, 9);
  const std::vector<float> expected = llama_logits(file.path(), tokens, KvType::kF32, false);
  CHECK(nmse(our_logits(file.path(), tokens, false), expected) < kSame);
  CHECK(nmse(our_logits(file.path(), tokens, true), expected) < kSame);
}

struct HeadLayout {
  uint32_t heads, kv_heads;
};
constexpr HeadLayout kLayouts[] = {{4, 4}, {6, 2}, {7, 1}, {14, 2}};  // multi-head, groups of 3 and 7

}  // namespace

TEST_CASE("every architecture, head layout, bias and tying gives libllama's logits") {
  for (const model::Arch& arch : model::archs()) {
    for (const HeadLayout& layout : kLayouts) {
      for (const bool bias : {false, true}) {
        for (const bool tied : {false, true}) {
          ToyParams params;
          params.arch = arch.name;
          params.n_head = layout.heads;
          params.n_head_kv = layout.kv_heads;
          params.n_embd = layout.heads * 16;
          params.qkv_bias = bias;
          params.tied = tied;
          check_same(params);
        }
      }
    }
  }
}

TEST_CASE("RoPE scaling as libllama reads it") {
  for (const model::Arch& arch : model::archs()) {
    for (const auto scaling : {ToyRope::kLinear, ToyRope::kYarn, ToyRope::kLlama3}) {
      if (scaling == ToyRope::kLlama3 && !arch.rope_factors) continue;
      ToyParams params;
      params.arch = arch.name;
      params.rope.scaling = scaling;
      params.rope.base = 5000.0F;
      params.rope.original_context = 32;
      for (const float factor : {0.5F, 4.0F}) {
        if (scaling == ToyRope::kLlama3 && factor < 1.0F) continue;
        params.rope.factor = factor;
        check_same(params);
      }
    }
  }
}

TEST_CASE("heads of other sizes") {
  for (const uint32_t head_dim : {8U, 20U, 80U, 128U, 256U}) {
    ToyParams params;
    params.head_dim = head_dim;
    check_same(params);
  }
}

TEST_CASE("one layer, and as many query heads on one KV head as there may be") {
  for (const model::Arch& arch : model::archs()) {
    ToyParams params;
    params.arch = arch.name;
    params.n_layer = 1;
    params.n_head = 64;
    params.n_head_kv = 1;
    params.n_embd = 64 * 8;
    check_same(params);
  }
}

TEST_CASE("every quantisation ggml can multiply") {
  ToyParams params;
  params.n_embd = params.n_ff = 256;
  params.n_head = 4;
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
                               GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q6_K, GGML_TYPE_Q5_K, GGML_TYPE_Q4_K,
                               GGML_TYPE_Q3_K, GGML_TYPE_Q2_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS}) {
    CAPTURE(std::string(ggml_type_name(type)));
    params.type = type;
    const ToyModel file(params);
    const std::vector<int32_t> tokens = random_tokens(130, params.n_vocab, 9);
    const std::vector<float> expected = llama_logits(file.path(), tokens, KvType::kF32, false);
    constexpr double kRounded = 1e-3;  // activations are rounded to 8 bits, and the least difference may tip that
    CHECK(nmse(our_logits(file.path(), tokens, true), expected) < kRounded);
    const std::vector<float> together = our_logits(file.path(), tokens, false);
    if (type != GGML_TYPE_Q4_1 && type != GGML_TYPE_Q5_0 && type != GGML_TYPE_Q5_1) {
      CHECK(nmse(together, expected) < kRounded);
      continue;
    }
    // Our own products for many tokens round nothing: libllama's logits for these weights as f32.
    const std::vector<float> exact = llama_logits(DequantisedModel(file.path()).path(), tokens, KvType::kF32, false);
    CHECK(nmse(together, exact) < kSame);
    CHECK(nmse(together, expected) < 2 * kRounded);
  }
}

TEST_CASE("an architecture that is not supported is named, with those that are") {
  GgufWriter writer("mamba");
  const MemoryFile file;
  writer.write(file);
  CHECK_THROWS_WITH_AS(model::Model(file.path()), doctest::Contains("'mamba'"), Error);
  CHECK_THROWS_WITH_AS(model::Model(file.path()), doctest::Contains("qwen3"), Error);
}

TEST_CASE("a missing key is named") {
  GgufWriter writer("llama");
  const MemoryFile file;
  writer.write(file);
  CHECK_THROWS_WITH_AS(model::Model(file.path()), doctest::Contains("llama.block_count"), Error);
}

TEST_CASE("a missing tensor is named") {
  GgufWriter writer("llama");
  for (const char* key : {".block_count", ".attention.head_count", ".vocab_size"}) writer.set(key, uint32_t{1});
  for (const char* key : {".embedding_length", ".feed_forward_length", ".context_length"})
    writer.set(key, uint32_t{32});
  writer.set(".attention.layer_norm_rms_epsilon", 1e-5F);
  const std::vector<float> ones(32, 1.0F);
  writer.add("token_embd.weight", 32, 1, GGML_TYPE_F32, ones);
  writer.add("output_norm.weight", 32, 1, GGML_TYPE_F32, ones);
  const MemoryFile file;
  writer.write(file);
  CHECK_THROWS_WITH_AS(model::Model(file.path()), doctest::Contains("lacks the tensor 'blk.0."), Error);
}

TEST_CASE("the fingerprint is of the file's content") {
  ToyParams params;
  params.arch = "llama";
  params.n_layer = 1;
  const ToyModel file(params);
  const std::string same = model::Model(file.path()).facts().fingerprint;
  CHECK(same == model::Model(ToyModel(params).path()).facts().fingerprint);
  params.seed = 77;
  CHECK(same != model::Model(ToyModel(params).path()).facts().fingerprint);
}

}  // namespace kvmerger::test
