// What the decoder graph needs to know of a model: numbers from the GGUF metadata and the row of the architecture
// table.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace kvmerger::model {

class GgufFile;

// One architecture: how it differs from the others. All else is read from the file.
struct Arch {
  const char* name;   // general.architecture
  const char* line;   // who uses it
  bool neox_rope;     // RoPE on halves (i, i + d/2) instead of neighbours (2i, 2i + 1)
  bool qk_norm;       // RMS norm of each query and key head before RoPE
  bool rope_factors;  // may hold rope_freqs.weight (Llama 3)
};

std::span<const Arch> archs();

struct Rope {
  uint32_t dims = 0;  // rotated dimensions of a head
  float base = 10000.0F;
  float scale = 1.0F;       // position multiplier: 1 / linear or yarn factor
  float ext_factor = 0.0F;  // 1 for yarn
  float attn_factor = 1.0F;
  uint32_t original_context = 0;
};

struct DecoderConfig {
  const Arch* arch = nullptr;
  uint32_t layers = 0, embedding = 0, feed_forward = 0, vocabulary = 0;
  uint32_t heads = 0, kv_heads = 0, head_dim = 0;
  uint32_t context = 0;  // tokens the model was trained for
  float rms_eps = 0.0F;
  Rope rope;

  uint32_t group() const { return heads / kv_heads; }  // query heads per KV head
};

// Throws Error on an architecture that is not in the table (lists it), a variant of one that is not supported (mixture
// of experts, per-layer head counts, longrope), or numbers that cannot be.
DecoderConfig read_config(const GgufFile& file);

}  // namespace kvmerger::model
