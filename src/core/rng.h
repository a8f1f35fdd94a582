// A small seeded generator (SplitMix64), the same on every machine, unlike the distributions of <random>.
#pragma once

#include <cstdint>

namespace kvmerger {

class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }  // [0, 1)
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(uniform() * bound); }

 private:
  uint64_t state_;
};

}  // namespace kvmerger
