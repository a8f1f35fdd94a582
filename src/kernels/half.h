// IEEE binary16 in plain integer code: for targets without conversion instructions, tails of rows and the reference.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

namespace kvmerger::kernels {

inline constexpr float kHalfMax = 65504.0f;  // larger values are stored as this one, never as infinity

// Rounds to nearest, ties to even.
inline uint16_t half_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(std::clamp(value, -kHalfMax, kHalfMax));
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal. Adding 0.5 leaves multiples of 2^-24, rounded by the FPU
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));  // exponent bias 127 -> 15
}

// Also of infinities and NaN, which half_from_float never makes.
inline float float_from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude < 0x400u) {  // subnormal: multiples of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1.0p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  if (magnitude >= 0x7c00u) return std::bit_cast<float>((magnitude << 13) | 0x7f800000u | sign);
  return std::bit_cast<float>(((magnitude << 13) + 0x38000000u) | sign);
}

// Of the two bytes at `from`.
inline float half_at(const void* from) {
  uint16_t half;
  std::memcpy(&half, from, sizeof half);
  return float_from_half(half);
}

}  // namespace kvmerger::kernels
