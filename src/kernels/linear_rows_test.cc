#include "kernels/linear_rows.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rng.h"
#include "kernels/attention.h"
#include "kernels/dispatch.h"
#include "kernels/half.h"

namespace kvmerger::kernels {
namespace {

constexpr uint32_t kBlock = 32;

// Bytes as the description says them, and the numbers they stand for.
struct Written {
  std::vector<uint8_t> bytes;
  std::vector<double> numbers;

  double half(double value) {
    const uint16_t bits = half_from_float(static_cast<float>(value));
    bytes.push_back(static_cast<uint8_t>(bits & 255));
    bytes.push_back(static_cast<uint8_t>(bits >> 8));
    return double{float_from_half(bits)};
  }
};

// A whole number from low to high; always low when `extreme`, which makes the largest sums there can be.
int whole(Rng& rng, bool extreme, int low, int high) {
  return extreme ? low : low + static_cast<int>(rng.uniform() * (high - low + 1));
}

void write_int8(Written& to, Rng& rng, bool extreme, int low, double scale, int* sum) {
  for (uint32_t at = 0; at < kBlock; ++at) {
    const int number = whole(rng, extreme, low, 127);
    to.bytes.push_back(static_cast<uint8_t>(number));
    to.numbers.push_back(scale * number);
    if (sum) *sum += number;
  }
}

void write_q8_0(Written& to, Rng& rng, bool extreme, int low) {
  const double scale = to.half(0.001 + rng.uniform() * 0.01);
  write_int8(to, rng, extreme, low, scale, nullptr);
}

void write_q4_1(Written& to, Rng& rng, bool extreme) {
  const double scale = to.half(0.001 + rng.uniform() * 0.01), minimum = to.half(-rng.uniform() * 0.1);
  int numbers[kBlock];
  for (int& number : numbers) number = 15 - whole(rng, extreme, 0, 15);
  for (uint32_t at = 0; at < 16; ++at) to.bytes.push_back(static_cast<uint8_t>(numbers[at] | numbers[at + 16] << 4));
  for (const int number : numbers) to.numbers.push_back(scale * number + minimum);
}

// The sum is written exactly (a power of two as scale), so that it is the sum of the numbers in double precision too.
void write_q8_1(Written& to, Rng& rng, bool extreme) {
  const double scale = to.half(std::ldexp(1.0, -6 - static_cast<int>(rng.uniform() * 3)));
  const size_t at = to.bytes.size();
  to.half(0.0);
  int sum = 0;
  write_int8(to, rng, extreme, -127, scale, &sum);
  // Whole numbers up to 2048 fit an f16; the last number makes the sum one of them.
  const int excess = sum - std::clamp(sum, -2048, 2048);
  REQUIRE(excess == 0);
  const uint16_t bits = half_from_float(static_cast<float>(scale * sum));
  to.bytes[at] = static_cast<uint8_t>(bits & 255), to.bytes[at + 1] = static_cast<uint8_t>(bits >> 8);
}

void check_as_in_double(RowFormat format, uint32_t outputs, uint32_t inputs, bool extreme) {
  CAPTURE(outputs);
  CAPTURE(inputs);
  Rng rng(outputs + inputs);
  Written weights, x;
  for (uint32_t block = 0; block < outputs * inputs / kBlock; ++block) {
    format == RowFormat::kQ4_1 ? write_q4_1(weights, rng, extreme) : write_q8_0(weights, rng, extreme, -128);
  }
  for (uint32_t block = 0; block < inputs / kBlock; ++block) {
    format == RowFormat::kQ4_1 ? write_q8_1(x, rng, false) : write_q8_0(x, rng, extreme, -127);
  }
  std::vector<float> scratch(rounded_vector_scratch(inputs)), y(outputs + 1, -7.0F);
  const auto read = format == RowFormat::kQ4_1 ? &read_q8_1 : &read_q8_0;
  const RoundedVector rounded = read(x.bytes.data(), inputs, scratch.data());
  const QuantisedRows rows{weights.bytes.data(), inputs, format};
  linear_rows(rows, 1, outputs - 1, rounded, y.data());
  CHECK(y.front() == -7.0F);  // not asked for
  CHECK(y.back() == -7.0F);
  linear_rows(rows, 0, 1, rounded, y.data());
  double worst = 0.0, largest = 0.0;
  for (uint32_t output = 0; output < outputs; ++output) {
    double sum = 0.0, size = 0.0;
    for (uint32_t input = 0; input < inputs; ++input) {
      const double product = weights.numbers[size_t{output} * inputs + input] * x.numbers[input];
      sum += product, size += std::abs(product);
    }
    worst = std::max(worst, std::abs(sum - double{y[output]}));
    largest = std::max(largest, size);
  }
  CHECK(worst < 1e-6 * largest);
}

}  // namespace

TEST_CASE("one token times rows of quantised weights: as in double precision on every target") {
  for (const std::string& name : target_names()) {
    CAPTURE(name);
    use_target_for_test(name);
    for (const RowFormat format : {RowFormat::kQ4_1, RowFormat::kQ8_0}) {
      for (const uint32_t outputs : {2, 5, 9, 16}) check_as_in_double(format, outputs, 576, false);
      for (const uint32_t inputs : {32, 64, 96}) check_as_in_double(format, 8, inputs, false);
      check_as_in_double(format, 8, 1536, true);
    }
  }
  use_target_for_test(target_names().front());
}

}  // namespace kvmerger::kernels
