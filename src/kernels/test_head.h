// For the tests and benchmarks of this folder: a KV head with random rows in pages of its own, and all targets in turn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/rng.h"
#include "kernels/attention.h"
#include "kernels/dispatch.h"
#include "kernels/page.h"
#include "kernels/scratch.h"

namespace kvmerger::kernels {

inline float random_value(Rng& rng) { return static_cast<float>(rng.uniform() * 2 - 1); }

inline std::vector<float> random_values(Rng& rng, size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = random_value(rng);
  return values;
}

class TestHead {
 public:
  // Every slot of the pages is filled, those behind the last row too, as the layout promises finite values there.
  TestHead(uint32_t rows, uint32_t head_dim, RowType key_type, RowType value_type, uint64_t seed) {
    const uint32_t pages = (rows + kPageRows - 1) / kPageRows;
    const size_t values = size_t{kPageRows} * head_dim;
    const size_t key_bytes = part_bytes(key_type, head_dim), bytes = key_bytes + part_bytes(value_type, head_dim);
    memory_.resize(pages * bytes + kAlignment);
    void* begin = memory_.data();
    size_t room = memory_.size();
    begin_ = static_cast<std::byte*>(std::align(kAlignment, pages * bytes, begin, room));
    Rng rng(seed);
    for (uint32_t page = 0; page < pages; ++page) {
      std::byte* key = begin_ + page * bytes;
      const std::vector<float> keys = random_values(rng, values), rest = random_values(rng, values);
      write_rows(key, key + key_bytes, key_type, value_type, head_dim, 0, kPageRows, keys.data(), rest.data(),
                 head_dim);
      pages_.push_back({key, key + key_bytes, nullptr});
    }
    head_ = {pages_.data(), rows, head_dim, key_type, value_type};
  }
  TestHead(const TestHead&) = delete;
  TestHead& operator=(const TestHead&) = delete;

  const HeadRows& rows() const { return head_; }
  std::span<const std::byte> bytes() const {  // of all rows, in aligned memory as pools have it
    return {begin_, memory_.size() - kAlignment};
  }
  std::byte* key(uint32_t page) { return const_cast<std::byte*>(pages_[page].key); }
  std::byte* value(uint32_t page) { return const_cast<std::byte*>(pages_[page].value); }

  // Biases on every second page, as after merging a part of the rows.
  void add_bias(Rng& rng) {
    biases_.resize(pages_.size() * kPageRows);
    for (size_t page = 0; page < pages_.size(); page += 2) {
      for (uint32_t slot = 0; slot < kPageRows; ++slot) biases_[page * kPageRows + slot] = 3 * random_value(rng);
      pages_[page].bias = &biases_[page * kPageRows];
    }
  }

 private:
  std::vector<std::byte> memory_;
  std::byte* begin_ = nullptr;
  std::vector<PageView> pages_;
  std::vector<float> biases_;
  HeadRows head_{};
};

// Runs the test once on each instruction set of this machine.
template <typename Test>
void on_every_target(const Test& test) {
  const std::string before = target_name();
  for (const std::string& name : target_names()) {
    use_target_for_test(name);
    test();
  }
  use_target_for_test(before);
}

}  // namespace kvmerger::kernels
