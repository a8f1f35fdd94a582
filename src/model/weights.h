// The tensors of a decoder, found by name, checked for shape, and placed where ggml multiplies them fastest.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "model/config.h"

struct ggml_tensor;

namespace kvmerger::model {

class GgufFile;

// Comments: [in, out] as ggml orders them. Biases and norms marked `or null` are used when the file has them.
struct LayerWeights {
  ggml_tensor *attn_norm = nullptr;                       // [embedding]
  ggml_tensor *q = nullptr, *q_bias = nullptr;            // [embedding, heads * head_dim]; bias or null
  ggml_tensor *k = nullptr, *k_bias = nullptr;            // [embedding, kv_heads * head_dim]; bias or null
  ggml_tensor *v = nullptr, *v_bias = nullptr;            // [embedding, kv_heads * head_dim]; bias or null
  ggml_tensor *q_norm = nullptr, *k_norm = nullptr;       // [head_dim]; only with Arch::qk_norm
  ggml_tensor *output = nullptr, *output_bias = nullptr;  // [heads * head_dim, embedding]; bias or null
  ggml_tensor *ffn_norm = nullptr;                        // [embedding]
  ggml_tensor *gate = nullptr, *gate_bias = nullptr;      // [embedding, feed_forward]; bias or null
  ggml_tensor *up = nullptr, *up_bias = nullptr;          // [embedding, feed_forward]; bias or null
  ggml_tensor *down = nullptr, *down_bias = nullptr;      // [feed_forward, embedding]; bias or null
};

// How matrices lie in memory: as in the file; laid out anew where ggml's products are faster then (costs a copy of them
// at load time); or as f32, eight times the memory of four-bit weights, for measurements: most products with quantised
// weights round activations to eight bits, which turns the smallest difference into noise.
enum class WeightLayout { kAsFile, kRepacked, kF32 };

class Weights {
 public:
  // Throws Error naming a tensor that is missing, has another shape than expected or a type ggml cannot multiply, or is
  // not known.
  Weights(const GgufFile &file, const DecoderConfig &config, WeightLayout layout);
  ~Weights();

  ggml_tensor *embedding = nullptr;    // [embedding, vocabulary]
  ggml_tensor *output_norm = nullptr;  // [embedding]
  ggml_tensor *output = nullptr,
              *output_bias = nullptr;   // [embedding, vocabulary]; the embedding when tied; bias or null
  ggml_tensor *rope_factors = nullptr;  // [rope.dims / 2] or null
  std::vector<LayerWeights> layers;
  bool tied = false;
  size_t bytes = 0;           // of all tensors
  size_t decode_bytes = 0;    // of those that are read whole for every token: all but an embedding that is no output
  size_t repacked_bytes = 0;  // of those not as in the file

 private:
  struct Placement;  // owns ggml's buffers
  std::unique_ptr<Placement> placement_;
};

}  // namespace kvmerger::model
