#include "toy_model.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/rng.h"

namespace kvmerger::test {
namespace {

// Adds random tensors to a file: matrices of N(0, 0.1), the same for norms around 1.
class Weights {
 public:
  Weights(GgufWriter& writer, const ToyParams& params) : writer_(writer), type_(params.type), rng_(params.seed) {}

  void matrix(const std::string& name, int64_t in, int64_t out) {
    writer_.add(name + ".weight", in, out, type_, random(in * out, 0));
  }
  void norm(const std::string& name, int64_t size) {
    writer_.add(name + ".weight", size, 1, GGML_TYPE_F32, random(size, 1));
  }
  void bias(const std::string& name, int64_t size) {
    writer_.add(name + ".bias", size, 1, GGML_TYPE_F32, random(size, 0));
  }

 private:
  std::vector<float> random(int64_t count, double mean) {
    std::vector<float> values;
    for (int64_t index = 0; index < count; ++index) values.push_back(static_cast<float>(mean + 0.1 * normal()));
    return values;
  }
  // Near enough to normal, and without a function that differs between C libraries: four uniforms have variance 1/3.
  double normal() { return (rng_.uniform() + rng_.uniform() + rng_.uniform() + rng_.uniform() - 2) * 1.7320508; }

  GgufWriter& writer_;
  ggml_type type_;
  Rng rng_;
};

void set_sizes(GgufWriter& writer, const ToyParams& params, uint32_t head_dim) {
  writer.set(".vocab_size", params.n_vocab);
  writer.set(".context_length", params.n_ctx);
  writer.set(".embedding_length", params.n_embd);
  writer.set(".block_count", params.n_layer);
  writer.set(".feed_forward_length", params.n_ff);
  writer.set(".attention.head_count", params.n_head);
  writer.set(".attention.head_count_kv", params.n_head_kv);
  writer.set(".attention.key_length", head_dim);
  writer.set(".attention.value_length", head_dim);
  writer.set(".attention.layer_norm_rms_epsilon", 1e-5F);
}

// Like Llama 3.1: short waves as they are, long ones slowed down by the factor, a ramp between.
std::vector<float> llama3_factors(uint32_t head_dim, float factor) {
  std::vector<float> factors;
  const auto pairs = static_cast<float>(head_dim / 2);
  for (float pair = 0; pair < pairs; ++pair) {
    const float ramp = std::min(1.0F, std::max(0.0F, (3 * pair - pairs) / pairs));
    factors.push_back(1 + (factor - 1) * ramp);
  }
  return factors;
}

void set_rope(GgufWriter& writer, const ToyParams& params, uint32_t head_dim) {
  const ToyRope& rope = params.rope;
  writer.set(".rope.dimension_count", head_dim);
  writer.set(".rope.freq_base", rope.base);
  if (rope.scaling == ToyRope::kLlama3) {
    KVM_CHECK(params.arch == "llama");
    writer.add("rope_freqs.weight", head_dim / 2, 1, GGML_TYPE_F32, llama3_factors(head_dim, rope.factor));
  } else if (rope.scaling != ToyRope::kNone) {
    writer.set(".rope.scaling.type", rope.scaling == ToyRope::kYarn ? "yarn" : "linear");
    writer.set(".rope.scaling.factor", rope.factor);
    if (rope.scaling == ToyRope::kYarn) writer.set(".rope.scaling.original_context_length", rope.original_context);
  }
}

// The vocabulary libllama keeps for tests: token t reads as t in hexadecimal; no token is special.
void set_vocabulary(GgufWriter& writer, uint32_t size) {
  std::vector<std::string> tokens;
  for (uint32_t token = 0; token < size; ++token) tokens.push_back(cat("tok_", token));
  writer.set("tokenizer.ggml.model", "test");
  writer.set("tokenizer.ggml.tokens", tokens);
  writer.set("tokenizer.ggml.scores", std::vector<float>(size, 0));
}

void add_layer(Weights& weights, const ToyParams& params, uint32_t head_dim, const std::string& block) {
  const int64_t query = int64_t{params.n_head} * head_dim, kv = int64_t{params.n_head_kv} * head_dim;
  weights.norm(block + "attn_norm", params.n_embd);
  weights.matrix(block + "attn_q", params.n_embd, query);
  weights.matrix(block + "attn_k", params.n_embd, kv);
  weights.matrix(block + "attn_v", params.n_embd, kv);
  weights.matrix(block + "attn_output", query, params.n_embd);
  if (params.qkv_bias) {
    weights.bias(block + "attn_q", query);
    weights.bias(block + "attn_k", kv);
    weights.bias(block + "attn_v", kv);
  }
  if (params.arch == "qwen3") {
    weights.norm(block + "attn_q_norm", head_dim);
    weights.norm(block + "attn_k_norm", head_dim);
  }
  weights.norm(block + "ffn_norm", params.n_embd);
  weights.matrix(block + "ffn_gate", params.n_embd, params.n_ff);
  weights.matrix(block + "ffn_up", params.n_embd, params.n_ff);
  weights.matrix(block + "ffn_down", params.n_ff, params.n_embd);
}

}  // namespace

ToyModel::ToyModel(const ToyParams& params) {
  const uint32_t head_dim = params.head_dim > 0 ? params.head_dim : params.n_embd / params.n_head;
  GgufWriter writer(params.arch);
  set_sizes(writer, params, head_dim);
  set_rope(writer, params, head_dim);
  params.vocabulary ? params.vocabulary(writer) : set_vocabulary(writer, params.n_vocab);
  Weights weights(writer, params);
  weights.matrix("token_embd", params.n_embd, params.n_vocab);
  for (uint32_t layer = 0; layer < params.n_layer; ++layer)
    add_layer(weights, params, head_dim, cat("blk.", layer, "."));
  weights.norm("output_norm", params.n_embd);
  if (!params.tied) weights.matrix("output", params.n_embd, params.n_vocab);
  writer.write(file_);
}

}  // namespace kvmerger::test
