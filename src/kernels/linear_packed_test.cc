#include "kernels/linear_packed.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/rng.h"
#include "kernels/attention.h"
#include "kernels/dispatch.h"
#include "kernels/half.h"

namespace kvmerger::kernels {
namespace {

constexpr uint32_t kBlock = 32;

// Numbers of a matrix and a vector, and the bytes they are kept as.
struct Product {
  uint32_t outputs, inputs;
  std::vector<int> weights;        // [outputs, inputs] -8..7
  std::vector<uint16_t> scales;    // [outputs, inputs / 32] f16
  std::vector<int> numbers;        // [inputs] -127..127
  std::vector<uint16_t> x_scales;  // [inputs / 32] f16

  [[nodiscard]] uint32_t blocks() const { return inputs / kBlock; }
};

Product random_product(uint32_t outputs, uint32_t inputs, bool extreme) {
  Rng rng(outputs + inputs);
  Product p{.outputs = outputs, .inputs = inputs, .weights = {}, .scales = {}, .numbers = {}, .x_scales = {}};
  const auto whole = [&](int low, int high) {
    return extreme ? low : low + static_cast<int>(rng.uniform() * (high - low + 1));
  };
  const auto scale = [&] { return half_from_float(static_cast<float>(0.001 + rng.uniform() * 0.01)); };
  for (uint32_t at = 0; at < outputs * inputs; ++at) p.weights.push_back(whole(-8, 7));
  for (uint32_t at = 0; at < inputs; ++at) p.numbers.push_back(whole(-127, 127));
  for (uint32_t at = 0; at < outputs * p.blocks(); ++at) p.scales.push_back(scale());
  for (uint32_t at = 0; at < p.blocks(); ++at) p.x_scales.push_back(scale());
  return p;
}

void append(std::vector<uint8_t>& bytes, uint16_t value) {
  bytes.push_back(static_cast<uint8_t>(value & 255));
  bytes.push_back(static_cast<uint8_t>(value >> 8));
}

// The layout as its description says it.
std::vector<uint8_t> packed(const Product& p) {
  std::vector<uint8_t> bytes;
  for (uint32_t group = 0; group < p.outputs; group += 8) {
    for (uint32_t block = 0; block < p.blocks(); ++block) {
      for (uint32_t output = group; output < group + 8; ++output) append(bytes, p.scales[output * p.blocks() + block]);
      for (uint32_t half = 0; half < 2; ++half) {
        for (uint32_t output = group; output < group + 8; ++output) {
          const int* row = &p.weights[output * p.inputs + block * kBlock + half * 8];
          for (uint32_t byte = 0; byte < 8; ++byte) {
            bytes.push_back(static_cast<uint8_t>((row[byte] & 15) | (row[byte + 16] & 15) << 4));
          }
        }
      }
    }
  }
  return bytes;
}

std::vector<uint8_t> q8_0(const Product& p) {
  std::vector<uint8_t> bytes;
  for (uint32_t at = 0; at < p.inputs; ++at) {
    if (at % kBlock == 0) append(bytes, p.x_scales[at / kBlock]);
    bytes.push_back(static_cast<uint8_t>(p.numbers[at]));
  }
  return bytes;
}

double exact(const Product& p, uint32_t output) {
  double sum = 0.0;
  for (uint32_t at = 0; at < p.inputs; ++at) {
    const double weight = double{float_from_half(p.scales[output * p.blocks() + at / kBlock])} *
                          p.weights[size_t{output} * p.inputs + at];
    sum += weight * double{float_from_half(p.x_scales[at / kBlock])} * p.numbers[at];
  }
  return sum;
}

void check_as_in_double(const Product& p) {
  CAPTURE(p.outputs);
  CAPTURE(p.inputs);
  const std::vector<uint8_t> weights = packed(p), x = q8_0(p);
  std::vector<float> scratch(rounded_vector_scratch(p.inputs)), y(p.outputs, -7.0F);
  const RoundedVector rounded = read_q8_0(x.data(), p.inputs, scratch.data());
  const PackedQ4 matrix{weights.data(), p.outputs, p.inputs};
  linear_packed(matrix, 8, p.outputs - 8, rounded, y.data());
  for (uint32_t output = 0; output < 8; ++output) CHECK(y[output] == -7.0F);  // not asked for
  linear_packed(matrix, 0, 8, rounded, y.data());
  double worst = 0.0, largest = 0.0;
  for (uint32_t output = 0; output < p.outputs; ++output) {
    worst = std::max(worst, std::abs(exact(p, output) - y[output]));
    largest = std::max(largest, std::abs(exact(p, output)));
  }
  CHECK(worst < 1e-6 * largest);
}

}  // namespace

TEST_CASE("one token times packed 4-bit weights: as in double precision on every target") {
  for (const std::string& name : target_names()) {
    CAPTURE(name);
    use_target_for_test(name);
    for (const uint32_t inputs : {32, 64, 96, 576}) check_as_in_double(random_product(24, inputs, false));
    check_as_in_double(random_product(16, 4096, true));  // the largest sums there can be
  }
  use_target_for_test(target_names().front());
}

}  // namespace kvmerger::kernels
