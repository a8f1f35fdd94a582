#include "kernels/linear_token.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/rng.h"
#include "kernels/attention.h"
#include "kernels/half.h"
#include "kernels/test_head.h"

namespace kvmerger::kernels {
namespace {

constexpr uint32_t kBlock = 32;

// Whole numbers from low to high; both the same for the largest sums there can be.
struct Range {
  int low, high;
  int pick(Rng& rng) const { return low + static_cast<int>(rng.uniform() * (high - low + 1)); }
};

// Numbers in blocks, each times the block's scale, plus its minimum.
struct Matrix {
  uint32_t outputs, inputs;
  std::vector<int> numbers;              // [outputs, inputs]
  std::vector<uint16_t> scales, minima;  // [outputs, inputs / 32] f16

  Matrix(uint32_t outputs, uint32_t inputs, Range range, bool with_minima, Rng& rng)
      : outputs(outputs), inputs(inputs) {
    for (uint32_t at = 0; at < outputs * inputs; ++at) numbers.push_back(range.pick(rng));
    for (uint32_t at = 0; at < outputs * inputs / kBlock; ++at) {
      scales.push_back(half_from_float(std::ldexp(1.0F, -6 - Range{0, 3}.pick(rng))));
      minima.push_back(half_from_float(with_minima ? static_cast<float>(-rng.uniform()) : 0.0F));
    }
  }
  [[nodiscard]] double value(uint32_t output, uint32_t input) const {
    const size_t at = size_t{output} * inputs + input, block = at / kBlock;
    return double{float_from_half(scales[block])} * numbers[at] + double{float_from_half(minima[block])};
  }
  [[nodiscard]] const int* block(size_t index) const { return &numbers[index * kBlock]; }
};

using Bytes = std::vector<uint8_t>;

void append(Bytes& bytes, uint16_t value) {
  bytes.push_back(static_cast<uint8_t>(value & 255));
  bytes.push_back(static_cast<uint8_t>(value >> 8));
}
void append_pair(Bytes& bytes, int low, int high) {
  bytes.push_back(static_cast<uint8_t>((low & 15) | (high & 15) << 4));
}

// The layouts as their descriptions say them.
Bytes as_q8_0(const Matrix& m) {
  Bytes bytes;
  for (size_t block = 0; block < m.scales.size(); ++block) {
    append(bytes, m.scales[block]);
    for (uint32_t at = 0; at < kBlock; ++at) bytes.push_back(static_cast<uint8_t>(m.block(block)[at]));
  }
  return bytes;
}
Bytes as_q8_1(const Matrix& m) {
  Bytes bytes;
  for (size_t block = 0; block < m.scales.size(); ++block) {
    int sum = 0;
    for (uint32_t at = 0; at < kBlock; ++at) sum += m.block(block)[at];
    const float scaled = float_from_half(m.scales[block]) * static_cast<float>(sum);
    REQUIRE(float_from_half(half_from_float(scaled)) == scaled);  // or the sum of the numbers would not be the oracle
    append(bytes, m.scales[block]);
    append(bytes, half_from_float(scaled));
    for (uint32_t at = 0; at < kBlock; ++at) bytes.push_back(static_cast<uint8_t>(m.block(block)[at]));
  }
  return bytes;
}
Bytes as_q4_1(const Matrix& m) {
  Bytes bytes;
  for (size_t block = 0; block < m.scales.size(); ++block) {
    append(bytes, m.scales[block]);
    append(bytes, m.minima[block]);
    for (uint32_t at = 0; at < 16; ++at) append_pair(bytes, m.block(block)[at], m.block(block)[at + 16]);
  }
  return bytes;
}
Bytes as_packed_q4(const Matrix& m) {
  Bytes bytes;
  const uint32_t blocks = m.inputs / kBlock;
  for (uint32_t group = 0; group < m.outputs; group += 8) {
    for (uint32_t block = 0; block < blocks; ++block) {
      const auto index = [&](uint32_t output) { return (group + output) * blocks + block; };
      for (uint32_t output = 0; output < 8; ++output) append(bytes, m.scales[index(output)]);
      for (uint32_t piece = 0; piece < 16; ++piece) {
        const int* row = m.block(index(piece % 8)) + piece / 8 * 8;
        for (uint32_t byte = 0; byte < 8; ++byte) append_pair(bytes, row[byte], row[byte + 16]);
      }
    }
  }
  return bytes;
}

struct Format {
  TokenFormat format;
  const char* name;
  Range range;  // of the weights' numbers
  bool minima;
  Bytes (*weights)(const Matrix&);
  Bytes (*x)(const Matrix&);
  RoundedVector (*read)(const void*, uint32_t, float*) noexcept;
};
constexpr Format kFormats[] = {
    {TokenFormat::kQ4_1, "Q4_1", {0, 15}, true, &as_q4_1, &as_q8_1, &read_q8_1},
    {TokenFormat::kQ8_0, "Q8_0", {-128, 127}, false, &as_q8_0, &as_q8_0, &read_q8_0},
    {TokenFormat::kPackedQ4, "packed Q4_0", {-8, 7}, false, &as_packed_q4, &as_q8_0, &read_q8_0},
};

void check_as_in_double(const Format& format, uint32_t outputs, uint32_t inputs, Range weights, Range numbers) {
  CAPTURE(outputs);
  CAPTURE(inputs);
  CAPTURE(weights.low);
  CAPTURE(numbers.low);
  Rng rng(outputs + inputs);
  const Matrix w(outputs, inputs, weights, format.minima, rng), x(1, inputs, numbers, false, rng);
  const Bytes w_bytes = format.weights(w), x_bytes = format.x(x);
  std::vector<float> scratch(rounded_vector_scratch(inputs)), y(outputs + 1, -7.0F);
  const RoundedVector rounded = format.read(x_bytes.data(), inputs, scratch.data());
  const TokenWeights all{w_bytes.data(), inputs, format.format};
  const uint32_t first = format.format == TokenFormat::kPackedQ4 ? 8 : 1;
  linear_token(all, first, outputs - first, rounded, y.data());
  CHECK(y[first - 1] == -7.0F);  // not asked for
  CHECK(y.back() == -7.0F);
  linear_token(all, 0, first, rounded, y.data());
  double worst = 0.0, largest = 0.0;
  for (uint32_t output = 0; output < outputs; ++output) {
    double sum = 0.0, size = 0.0;
    for (uint32_t input = 0; input < inputs; ++input) {
      sum += w.value(output, input) * x.value(0, input);
      size += std::abs(w.value(output, input) * x.value(0, input));
    }
    worst = std::max(worst, std::abs(sum - double{y[output]}));
    largest = std::max(largest, size);
  }
  CHECK(worst < 1e-6 * largest);
}

template <class Check>
void on_every_format(const Check& check) {
  on_every_target([&] {
    CAPTURE(std::string(target_name()));
    for (const Format& format : kFormats) {
      CAPTURE(format.name);
      check(format);
    }
  });
}

constexpr Range kAll{-127, 127};

}  // namespace

TEST_CASE("one token times quantised weights: as in double precision on every target") {
  on_every_format([](const Format& format) {
    const bool packed = format.format == TokenFormat::kPackedQ4;
    for (const uint32_t outputs : {16, 24}) check_as_in_double(format, outputs, 576, format.range, kAll);
    for (const uint32_t outputs : {2, 5, 7, 9}) {
      if (!packed) check_as_in_double(format, outputs, 96, format.range, kAll);
    }
    for (const uint32_t inputs : {32, 64, 96}) check_as_in_double(format, 16, inputs, format.range, kAll);
    for (const int weight : {format.range.low, format.range.high}) {  // the largest sums there can be
      for (const int number : {-127, 127}) check_as_in_double(format, 16, 1536, {weight, weight}, {number, number});
    }
  });
}

TEST_CASE("one token that overflowed stays so") {
  on_every_format([](const Format& format) {
    Rng rng(3);
    const Matrix w(16, 64, format.range, format.minima, rng);
    Matrix x(1, 64, kAll, false, rng);
    const Bytes w_bytes = format.weights(w);
    Bytes x_bytes = format.x(x);
    const uint16_t infinity = 0x7c00;
    x_bytes[0] = infinity & 255, x_bytes[1] = infinity >> 8;
    std::vector<float> scratch(rounded_vector_scratch(64)), y(16);
    linear_token({w_bytes.data(), 64, format.format}, 0, 16, format.read(x_bytes.data(), 64, scratch.data()), y.data());
    for (const float value : y) CHECK(!std::isfinite(value));
  });
}

}  // namespace kvmerger::kernels
