// Fixed-size pages from memory mapped in segments. Freed pages go back to the operating system at once, as far as its
// own pages allow; the lowest free page is given out first, so that the pool stays dense. Knows nothing of rows.
//
// A page has two parts. Those of one kind lie next to each other, so that reading all first parts brings nothing of the
// second ones into the caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace kvmerger::kv {

struct Page {
  std::byte* data;
  std::byte* side;

  bool operator==(const Page&) const = default;
};

class PagePool {
 public:
  PagePool(size_t data_bytes, size_t side_bytes);
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // `count` pages of zeros. Throws Error with the figures when memory does not suffice; then nothing has changed.
  std::vector<Page> take(size_t count);
  void give_back(std::span<const Page> pages) noexcept;

  size_t page_bytes() const { return data_bytes_ + side_bytes_; }
  size_t used() const { return used_ * page_bytes(); }
  size_t peak() const { return peak_ * page_bytes(); }
  size_t resident() const;  // bytes of operating system pages that may be in memory

  void set_limit_for_test(size_t bytes) { limit_ = bytes; }

 private:
  class Parts;
  class Segment;

  void grow(size_t pages);
  void check_memory(size_t count) const;

  const size_t data_bytes_, side_bytes_;
  size_t used_ = 0, peak_ = 0, free_ = 0;
  size_t limit_ = SIZE_MAX;
  std::vector<std::unique_ptr<Segment>> segments_;  // by address
};

// Bytes this process may still take: the machine's available memory, or what its control group leaves.
size_t available_memory();

}  // namespace kvmerger::kv
