#include "core/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdio>

namespace kvmerger {

struct Hasher::State {
  XXH3_state_t xxh;
};

Hasher::Hasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh); }
Hasher::~Hasher() = default;

void Hasher::add(const void* data, size_t bytes) { XXH3_128bits_update(&state_->xxh, data, bytes); }

uint64_t Hasher::digest64() const { return XXH3_128bits_digest(&state_->xxh).low64; }

std::string Hasher::digest128_hex() const {
  const XXH128_hash_t digest = XXH3_128bits_digest(&state_->xxh);
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(digest.high64),
                static_cast<unsigned long long>(digest.low64));
  return text;
}

}  // namespace kvmerger
