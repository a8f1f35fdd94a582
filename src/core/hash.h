// Checksums and fingerprints: XXH3. Not for security.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace kvmerger {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  void add(const void* data, size_t bytes);
  uint64_t digest64() const;
  std::string digest128_hex() const;  // 32 digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvmerger
