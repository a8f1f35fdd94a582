#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/error.h"
#include "model/gguf_file.h"

namespace kvmerger::model {
namespace {

constexpr uint32_t kMost = INT32_MAX;  // of a size: positions and ggml's parameters are int32

const Arch& find_arch(const GgufFile& file) {
  const std::string name = file.text("general.architecture");
  std::string known;
  for (const Arch& arch : archs()) {
    if (name == arch.name) return arch;
    known += (known.empty() ? "" : ", ") + std::string(arch.name);
  }
  throw Error(cat("model '", file.path(), "': architecture '", name, "' is not supported; supported: ", known));
}

[[noreturn]] void unsupported(const GgufFile& file, const std::string& what) {
  throw Error(cat("model '", file.path(), "': ", what, " is not supported"));
}

// Yarn lengthens queries and keys by 1 + 0.1 ln(factor) for factors above 1. ggml_rope_ext does so for any factor when
// its ext_factor is set; this is what is to be multiplied so that factors below 1 are left alone.
float yarn_attention_factor(float scale) {
  const float log_factor = -std::log(scale);
  return log_factor <= 0.0F ? 1.0F / (1.0F + 0.1F * log_factor) : 1.0F;
}

Rope read_rope(const GgufFile& file, const std::string& arch, const DecoderConfig& config) {
  const auto key = [&](const char* name) { return arch + ".rope." + name; };
  Rope rope;
  rope.dims = file.whole_or(key("dimension_count"), config.head_dim);
  rope.base = file.real_or(key("freq_base"), rope.base);
  rope.original_context = file.whole_or(key("scaling.original_context_length"), config.context);
  const std::string type = file.text_or(key("scaling.type"), "linear");
  const float factor = file.real_or(key("scaling.factor"), file.real_or(key("scale_linear"), 0.0F));
  if (type != "none" && type != "linear" && type != "yarn") unsupported(file, "rope scaling '" + type + "'");
  if (type != "none" && factor > 0.0F) rope.scale = 1.0F / factor;
  if (type == "yarn") {
    rope.ext_factor = 1.0F;
    rope.attn_factor = yarn_attention_factor(rope.scale);
  }
  rope.attn_factor *= file.real_or(key("scaling.attn_factor"), 1.0F);
  const bool numbers = rope.base > 0.0F && std::isfinite(rope.base) && rope.scale > 0.0F && std::isfinite(rope.scale) &&
                       std::isfinite(rope.attn_factor) && rope.original_context <= kMost;
  if (rope.dims == 0 || rope.dims > config.head_dim || rope.dims % 2 != 0 || !numbers) {
    throw Error(cat("model '", file.path(), "': rope over ", rope.dims, " of ", config.head_dim,
                    " dimensions with base ", rope.base, ", scale ", rope.scale, ", attention factor ",
                    rope.attn_factor, " and original context ", rope.original_context, " cannot be"));
  }
  return rope;
}

uint32_t per_layer(const GgufFile& file, const std::string& key, uint32_t fallback) {
  if (file.array_length_or(key, 0) > 0) unsupported(file, "a different '" + key + "' for each layer");
  return file.whole_or(key, fallback);
}

void check(const GgufFile& file, const DecoderConfig& config) {
  for (const uint32_t size : {config.layers, config.embedding, config.feed_forward, config.heads, config.kv_heads,
                              config.vocabulary, config.context, config.head_dim}) {
    if (size == 0 || size > kMost || config.layers > 4096) {
      throw Error(cat("model '", file.path(), "': a size in its metadata is 0 or absurd"));
    }
  }
  if (!(config.rms_eps >= 0.0F && config.rms_eps < 1.0F)) {
    throw Error(cat("model '", file.path(), "': an epsilon of ", config.rms_eps, " for its norms cannot be"));
  }
  if (config.heads % config.kv_heads != 0) {
    throw Error(
        cat("model '", file.path(), "': ", config.heads, " query heads cannot share ", config.kv_heads, " KV heads"));
  }
  if (config.group() > 64) unsupported(file, cat(config.group(), " query heads on one KV head (64 are)"));
  if (config.head_dim > 256 || config.head_dim % 4 != 0) {
    unsupported(file, cat("a head dimension of ", config.head_dim, " (a multiple of 4 up to 256 is)"));
  }
}

}  // namespace

DecoderConfig read_config(const GgufFile& file) {
  DecoderConfig config;
  config.arch = &find_arch(file);
  const std::string arch = config.arch->name;
  const auto key = [&](const char* name) { return arch + "." + name; };
  if (file.whole_or(key("expert_count"), 0) > 0) unsupported(file, "a mixture of experts");
  config.layers = file.whole(key("block_count"));
  config.embedding = file.whole(key("embedding_length"));
  config.feed_forward = per_layer(file, key("feed_forward_length"), 0);
  config.context = file.whole(key("context_length"));
  config.rms_eps = file.real(key("attention.layer_norm_rms_epsilon"));
  config.vocabulary = file.whole_or(key("vocab_size"), file.array_length_or("tokenizer.ggml.tokens", 0));
  config.heads = per_layer(file, key("attention.head_count"), 0);
  config.kv_heads = per_layer(file, key("attention.head_count_kv"), config.heads);
  config.head_dim = file.whole_or(key("attention.key_length"), config.heads ? config.embedding / config.heads : 0);
  check(file, config);
  if (file.whole_or(key("attention.value_length"), config.head_dim) != config.head_dim) {
    unsupported(file, "values of another length than keys");
  }
  config.rope = read_rope(file, arch, config);
  return config;
}

}  // namespace kvmerger::model
