#include "core/read_memory.h"

#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <vector>

namespace kvmerger {

TEST_CASE("read_memory: every byte of whole pieces is read, none behind them") {
  std::vector<uint64_t> words(100);
  std::iota(words.begin(), words.end(), 1);
  const auto* bytes = reinterpret_cast<const std::byte*>(words.data());
  CHECK(read_memory(bytes, 0) == 0);
  CHECK(read_memory(bytes, 255) == 0);
  CHECK(read_memory(bytes, 256) == 32 * 33 / 2);
  CHECK(read_memory(bytes, 800) == 96 * 97 / 2);
  std::vector<std::byte> moved(801);
  std::memcpy(moved.data() + 1, words.data(), 800);
  CHECK(read_memory(moved.data() + 1, 800) == 96 * 97 / 2);
}

}  // namespace kvmerger
