// Digests that the reference implementation (python-xxhash, xxh3_128) gives.
#include "core/hash.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>

namespace kvmerger {
namespace {

std::string hex(const std::string& data, size_t piece = SIZE_MAX) {
  Hasher hasher;
  for (size_t at = 0; at < data.size(); at += std::min(piece, data.size() - at)) {
    hasher.add(data.data() + at, std::min(piece, data.size() - at));
  }
  return hasher.digest128_hex();
}

std::string all_bytes() {
  std::string bytes;
  for (uint32_t at = 0; at < 5120; ++at) bytes += static_cast<char>(at % 256);
  return bytes;
}

TEST_CASE("known digests") {
  CHECK(hex("") == "99aa06d3014798d86001c324468d497f");
  CHECK(hex("a") == "a96faf705af16834e6c632b61e964e1f");
  CHECK(hex("kvmerger") == "5206ee64766602d9b1f0762328fdf9d1");
  CHECK(hex(all_bytes()) == "87cf83cc9a055cf4f875f2fa2e99df80");
}

TEST_CASE("the 64-bit digest is the low half") {
  Hasher hasher;
  hasher.add("kvmerger", 8);
  CHECK(hasher.digest64() == 0xb1f0762328fdf9d1);
}

TEST_CASE("how the data is cut makes no difference, and a digest may be taken on the way") {
  for (size_t piece : {1U, 7U, 64U, 1000U}) CHECK(hex(all_bytes(), piece) == hex(all_bytes()));
  Hasher hasher;
  hasher.add("kv", 2);
  hasher.digest64();
  hasher.add("merger", 6);
  CHECK(hasher.digest128_hex() == hex("kvmerger"));
}

}  // namespace
}  // namespace kvmerger
