#include "kernels/linear.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/rng.h"
#include "kernels/attention.h"
#include "kernels/dispatch.h"

namespace kvmerger::kernels {
namespace {

// A number format for this test: four int8 behind the f32 they are multiplied with.
struct Block {
  static constexpr size_t kNumbers = 4;
  float scale;
  std::array<int8_t, kNumbers> numbers;
};

void read_blocks(const void* blocks, float* numbers, int64_t count) {
  CHECK(count % static_cast<int64_t>(Block::kNumbers) == 0);  // called from what is noexcept
  const char* from = static_cast<const char*>(blocks);
  for (int64_t at = 0; at < count; at += Block::kNumbers, from += sizeof(Block)) {
    Block block;
    std::memcpy(&block, from, sizeof block);
    for (const int8_t number : block.numbers) *numbers++ = block.scale * static_cast<float>(number);
  }
}

std::vector<Block> random_blocks(Rng& rng, size_t numbers) {
  std::vector<Block> blocks(numbers / Block::kNumbers);
  for (Block& block : blocks) {
    block.scale = static_cast<float>(rng.uniform() * 0.02);
    for (int8_t& number : block.numbers) number = static_cast<int8_t>(std::lround(rng.uniform() * 254 - 127));
  }
  return blocks;
}

std::vector<float> random_numbers(Rng& rng, size_t count) {
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(rng.uniform() * 2 - 1);
  return numbers;
}

void check_as_in_double(uint32_t outputs, uint32_t inputs, uint32_t tokens) {
  CAPTURE(outputs);
  CAPTURE(inputs);
  CAPTURE(tokens);
  Rng rng(outputs + inputs + tokens);
  const std::vector<Block> blocks = random_blocks(rng, size_t{outputs} * inputs);
  const WeightRows weights{blocks.data(), outputs, inputs, Block::kNumbers, sizeof(Block), &read_blocks};
  const std::vector<float> x = random_numbers(rng, size_t{tokens} * inputs);
  std::vector<float> row(inputs), scratch(linear_scratch(weights)), y(size_t{tokens} * outputs, -7.0F);
  for (uint32_t unit = 0; unit < linear_units(weights); ++unit) {
    linear(weights, unit, x.data(), tokens, y.data(), scratch.data());
  }
  double worst = 0.0;
  for (uint32_t output = 0; output < outputs; ++output) {
    read_blocks(&blocks[size_t{output} * inputs / Block::kNumbers], row.data(), inputs);
    for (uint32_t token = 0; token < tokens; ++token) {
      double sum = 0.0;
      for (uint32_t input = 0; input < inputs; ++input) sum += double{x[size_t{token} * inputs + input]} * row[input];
      worst = std::max(worst, std::abs(sum - y[size_t{token} * outputs + output]));
    }
  }
  CHECK(worst < 1e-6 * inputs);
}

}  // namespace

TEST_CASE("tokens times weights of a block format: as in double precision, for odd sizes") {
  for (const std::string& name : target_names()) {
    CAPTURE(name);
    use_target_for_test(name);
    for (const uint32_t tokens : {1, 5, 6, 12, 31, 67}) check_as_in_double(48, 128, tokens);
    for (const uint32_t inputs : {4, 60, 64, 68, 196}) check_as_in_double(16, inputs, 13);
    for (const uint32_t outputs : {1, 15, 17, 33}) check_as_in_double(outputs, 72, 7);
  }
  use_target_for_test(target_names().front());
}

TEST_CASE("a unit writes its own outputs only") {
  Rng rng(1);
  const std::vector<Block> blocks = random_blocks(rng, size_t{40} * 8);
  const WeightRows weights{blocks.data(), 40, 8, Block::kNumbers, sizeof(Block), &read_blocks};
  const std::vector<float> x = random_numbers(rng, size_t{9} * 8);
  std::vector<float> scratch(linear_scratch(weights)), y(size_t{9} * 40, -7.0F);
  REQUIRE(linear_units(weights) == 3);
  linear(weights, 1, x.data(), 9, y.data(), scratch.data());
  for (size_t at = 0; at < y.size(); ++at) CHECK((y[at] == -7.0F) == (at % 40 < 16 || at % 40 >= 32));
}

}  // namespace kvmerger::kernels
