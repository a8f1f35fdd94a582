#include "kernels/page.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/half.h"
#include "kernels/test_head.h"

namespace kvmerger::kernels {
namespace {

// IEEE 754 binary16, 3.4: (-1)^s * 2^(e-15) * (1 + f/1024), or (-1)^s * 2^-14 * f/1024 when e = 0.
double value_of_half(uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction / 1024.0, -14) : std::ldexp(1 + fraction / 1024.0, exponent - 15);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

// The nearest half by looking at its neighbours among all finite halves of that sign; ties go to the even one.
uint16_t nearest_half(float value) {
  const double magnitude = std::abs(static_cast<double>(value));
  uint16_t low = 0, high = 0x7bff;
  while (high - low > 1) {
    const uint16_t middle = static_cast<uint16_t>((low + high) / 2);
    (value_of_half(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - value_of_half(low), above = value_of_half(high) - magnitude;
  const bool up = above < below || (above == below && high % 2 == 0);
  return static_cast<uint16_t>((up ? high : low) | (std::signbit(value) ? 0x8000 : 0));
}

// Floats around everything that matters: each half, the middle between neighbours, and one float beside both.
std::vector<float> hard_floats() {
  std::vector<float> values = {0.0f, -0.0f, 65504.0f, 65519.0f, 65520.0f, 1e6f, 3e38f, 1e-10f, 1e-40f};
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const double here = value_of_half(half), next = value_of_half(static_cast<uint16_t>(half + 1));
    for (const double exact : {here, (here + next) / 2}) {
      const float value = static_cast<float>(exact);
      for (const float near : {value, std::nextafter(value, 0.0f), std::nextafter(value, 1e9f)}) {
        values.push_back(half % 2 == 0 ? near : -near);
      }
    }
  }
  return values;
}

template <typename T>
T at(const std::vector<std::byte>& bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

TEST_CASE("half.h reads every half and rounds every hard float") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    if ((half & 0x7c00) == 0x7c00) {  // read, but never stored
      const float value = float_from_half(half);
      REQUIRE(std::isnan(value) == ((half & 0x3ff) != 0));
      REQUIRE(std::isinf(value) == ((half & 0x3ff) == 0));
      REQUIRE(std::signbit(value) == ((half & 0x8000) != 0));
      continue;
    }
    REQUIRE(static_cast<double>(float_from_half(half)) == value_of_half(half));
    REQUIRE(half_from_float(float_from_half(half)) == half);
  }
  for (const float value : hard_floats()) REQUIRE(half_from_float(value) == nearest_half(value));
}

TEST_CASE("f16 pages hold the nearest half, on every target") {
  const std::vector<float> values = hard_floats();
  const uint32_t dim = 8, page_values = dim * kPageRows;
  on_every_target([&] {
    INFO(std::string(target_name()));
    std::vector<std::byte> key(page_values * 2), value(page_values * 2);
    for (size_t first = 0; first + page_values <= values.size(); first += page_values) {
      const float* rows = values.data() + first;
      write_rows(key.data(), value.data(), RowType::kF16, RowType::kF16, dim, 0, kPageRows, rows, rows, dim);
      for (uint32_t index = 0; index < page_values; ++index) {
        const uint16_t expected = nearest_half(rows[index]);
        REQUIRE(at<uint16_t>(value, index) == expected);
        REQUIRE(at<uint16_t>(key, index % dim * kPageRows + index / dim) == expected);
      }
    }
  });
}

TEST_CASE("rows land in their slots and nowhere else, and are read back") {
  on_every_target([] {
    INFO(std::string(target_name()));
    for (const uint32_t dim : {4u, 8u, 12u, 64u, 80u, 128u, 256u}) {
      for (const uint32_t slot : {0u, 3u, 15u}) {
        const uint32_t count = std::min(5u, kPageRows - slot);
        const size_t stride = dim + 3;
        Rng rng(dim + slot);
        const std::vector<float> rows = random_values(rng, count * stride), values = random_values(rng, count * stride);
        const std::byte blank{0x11};
        std::vector<std::byte> key(dim * kPageRows * 4, blank), value(dim * kPageRows * 4, blank);
        const float untouched = at<float>(key, 0);
        write_rows(key.data(), value.data(), RowType::kF32, RowType::kF32, dim, slot, count, rows.data(), values.data(),
                   stride);
        for (uint32_t row = 0; row < kPageRows; ++row) {
          const bool written = row >= slot && row < slot + count;
          for (uint32_t d = 0; d < dim; ++d) {
            const size_t from = (row - slot) * stride + d;
            REQUIRE(at<float>(key, d * kPageRows + row) == (written ? rows[from] : untouched));
            REQUIRE(at<float>(value, row * dim + d) == (written ? values[from] : untouched));
          }
        }
      }
    }
  });
}

// What block `first` .. `last` of a row becomes as q8_0, by the format's definition.
std::vector<double> quantised(const float* row, uint32_t head_dim) {
  std::vector<double> result;
  for (uint32_t first = 0; first < head_dim; first += 32) {
    const uint32_t last = std::min(first + 32, head_dim);
    float largest = 0;
    for (uint32_t d = first; d < last; ++d) largest = std::max(largest, std::abs(row[d]));
    const double scale = value_of_half(nearest_half(largest / 127));
    for (uint32_t d = first; d < last; ++d) {
      const double steps = scale > 0 ? std::nearbyint(static_cast<double>(row[d]) / scale) : 0;
      result.push_back(std::clamp(steps, -127.0, 127.0) * scale);
    }
  }
  return result;
}

TEST_CASE("q8_0 rows are the nearest multiples of their block's scale, in their slots and nowhere else") {
  on_every_target([] {
    INFO(std::string(target_name()));
    for (const uint32_t dim : {4u, 5u, 20u, 64u, 80u, 99u, 256u}) {
      Rng rng(dim);
      std::vector<float> before = random_values(rng, kPageRows * dim), rows = random_values(rng, 5 * dim);
      std::fill_n(rows.begin() + dim, dim, 0.0f);  // a row of zeros
      for (uint32_t d = 0; d < dim; ++d) rows[2 * dim + d] *= 1e-6f, rows[3 * dim + d] *= 1e5f;
      std::vector<std::byte> key(part_bytes(RowType::kQ8, dim)), value(key.size());
      const auto write = [&](uint32_t slot, uint32_t count, const std::vector<float>& from) {
        write_rows(key.data(), value.data(), RowType::kQ8, RowType::kQ8, dim, slot, count, from.data(), from.data(),
                   dim);
      };
      write(0, kPageRows, before);
      write(7, 5, rows);
      const PageView page{key.data(), value.data(), nullptr};
      std::vector<float> keys(kPageRows * dim), values(kPageRows * dim);
      read_rows({&page, kPageRows, dim, RowType::kQ8, RowType::kQ8}, keys.data(), values.data());
      for (uint32_t row = 0; row < kPageRows; ++row) {
        const bool written = row >= 7 && row < 12;
        const std::vector<double> expected = quantised(written ? &rows[(row - 7) * dim] : &before[row * dim], dim);
        for (uint32_t d = 0; d < dim; ++d) {
          REQUIRE(keys[row * dim + d] == doctest::Approx(expected[d]).epsilon(1e-6));
          REQUIRE(values[row * dim + d] == keys[row * dim + d]);
        }
      }
      // Written again, the numbers stay as they are.
      const std::vector<std::byte> key_before = key, value_before = value;
      write(0, kPageRows, keys);
      CHECK(key == key_before);
      CHECK(value == value_before);
    }
  });
}

TEST_CASE("read_rows gives all rows of several pages, of either type") {
  on_every_target([] {
    INFO(std::string(target_name()));
    for (const RowType type : {RowType::kF32, RowType::kF16}) {
      for (const uint32_t rows : {1u, 16u, 37u}) {
        const uint32_t dim = 20;
        TestHead head(rows, dim, type, type, rows);
        std::vector<float> key(rows * dim), value(rows * dim);
        read_rows(head.rows(), key.data(), value.data());
        const auto stored = [&](const std::byte* page, size_t index) {
          if (type == RowType::kF32) return static_cast<double>(reinterpret_cast<const float*>(page)[index]);
          return value_of_half(reinterpret_cast<const uint16_t*>(page)[index]);
        };
        for (uint32_t row = 0; row < rows; ++row) {
          for (uint32_t d = 0; d < dim; ++d) {
            const uint32_t page = row / kPageRows, slot = row % kPageRows;
            REQUIRE(static_cast<double>(key[row * dim + d]) == stored(head.key(page), d * kPageRows + slot));
            REQUIRE(static_cast<double>(value[row * dim + d]) == stored(head.value(page), slot * dim + d));
          }
        }
      }
    }
  });
}

}  // namespace kvmerger::kernels
