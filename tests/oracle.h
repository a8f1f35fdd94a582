// libllama itself, as the oracle: what it computes for a model file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kvmerger::test {

// How the cache keeps keys and values. kF32 computes everything in f32, with plain attention; kF16 with flash
// attention, as libllama does by default.
enum class KvType { kF32, kF16 };

// The logits behind every token: [tokens, vocabulary]. In one batch (libllama cuts it into pieces of 512), or one
// decode per token. Flash attention as is libllama's default, two threads. Throws Error when the model cannot be loaded
// or run.
std::vector<float> llama_logits(const std::string& path, std::span<const int32_t> tokens, KvType type,
                                bool token_by_token, uint32_t threads = 1);

// The `count` tokens of largest logit, one after the other, behind `tokens`.
std::vector<int32_t> llama_greedy(const std::string& path, std::span<const int32_t> tokens, uint32_t count, KvType type,
                                  uint32_t threads = 1);

}  // namespace kvmerger::test
