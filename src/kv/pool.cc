#include "kv/pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>

#include "core/error.h"

namespace kvmerger::kv {
namespace {

constexpr size_t kSegmentBytes = size_t{16} << 20;

size_t system_page() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

size_t read_number(const char* path, size_t fallback) {
  std::ifstream file(path);
  size_t number = 0;
  return file >> number ? number : fallback;  // "max" is not a number: no limit
}

size_t machine_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  size_t kib = 0;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib << 10;
    file.ignore(16, '\n');
  }
  return SIZE_MAX;
}

// What the control group leaves. Cached files that are not in use give way, so they do not count.
size_t group_memory() {
  const size_t most = read_number("/sys/fs/cgroup/memory.max", SIZE_MAX);
  if (most == SIZE_MAX) return SIZE_MAX;
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  std::string key;
  size_t value = 0, idle = 0;
  while (file >> key >> value) idle = key == "inactive_file" ? value : idle;
  const size_t now = read_number("/sys/fs/cgroup/memory.current", 0);
  return most - std::min(most, now - std::min(now, idle));
}

}  // namespace

size_t available_memory() { return std::min(machine_memory(), group_memory()); }

// One of a segment's two arrays: the parts of one kind. Bits: which of the system's pages may be in memory.
class PagePool::Parts {
 public:
  // `count` parts of `bytes` each; takes whole pages of the system.
  Parts(size_t bytes, size_t count) : bytes_(bytes), resident_((bytes * count + system_page() - 1) / system_page()) {}

  size_t size() const { return resident_.size() * system_page(); }
  void place(std::byte* base) { base_ = base; }
  size_t index_of(const std::byte* part) const { return static_cast<size_t>(part - base_) / bytes_; }
  size_t resident() const {
    return static_cast<size_t>(std::count(resident_.begin(), resident_.end(), true)) * system_page();
  }

  // The part with zeros.
  std::byte* take(size_t index) {
    mark(resident_, index);
    return static_cast<std::byte*>(std::memset(base_ + index * bytes_, 0, bytes_));
  }

  // Returns the system's pages that no used part touches any more.
  void release(const std::vector<bool>& used) {
    std::vector<bool> touched(resident_.size());
    for (size_t index = 0; index < used.size(); ++index) {
      if (used[index]) mark(touched, index);
    }
    for (size_t page = 0; page < touched.size();) {
      const size_t first = page;
      while (page < touched.size() && resident_[page] && !touched[page]) resident_[page++] = false;
      if (page > first) {
        madvise(base_ + first * system_page(), (page - first) * system_page(), MADV_DONTNEED);
      } else {
        ++page;
      }
    }
  }

 private:
  // The system's pages that a part lies in.
  void mark(std::vector<bool>& pages, size_t index) const {
    const size_t begin = index * bytes_, last = begin + bytes_ - 1;
    for (size_t page = begin / system_page(); page <= last / system_page(); ++page) pages[page] = true;
  }

  const size_t bytes_;
  std::byte* base_ = nullptr;
  std::vector<bool> resident_;
};

// One mapping: all data parts, then all side parts.
class PagePool::Segment {
 public:
  Segment(size_t data_bytes, size_t side_bytes, size_t pages)
      : data_(data_bytes, pages), side_(side_bytes, pages), used_(pages), free_(pages) {
    void* mapped = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
      throw Error(cat("the system gives no more memory for the KV cache (", bytes() >> 20, " MiB)"));
    base_ = static_cast<std::byte*>(mapped);
    data_.place(base_);
    side_.place(base_ + data_.size());
  }
  ~Segment() { munmap(base_, bytes()); }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  const std::byte* base() const { return base_; }
  size_t free() const { return free_; }
  bool empty() const { return free_ == used_.size(); }
  bool holds(const std::byte* data) const { return data >= base_ && data < base_ + data_.size(); }
  size_t resident() const { return data_.resident() + side_.resident(); }

  Page take() {
    const auto found = std::find(used_.begin() + static_cast<std::ptrdiff_t>(first_free_), used_.end(), false);
    const size_t index = static_cast<size_t>(found - used_.begin());
    used_[index] = true;
    first_free_ = index + 1;
    --free_;
    return {data_.take(index), side_.take(index)};
  }

  void give_back(const Page& page) {
    const size_t index = data_.index_of(page.data);
    KVM_CHECK(used_[index]);
    used_[index] = false;
    first_free_ = std::min(first_free_, index);
    ++free_;
  }

  void release() {
    data_.release(used_);
    side_.release(used_);
  }

 private:
  size_t bytes() const { return data_.size() + side_.size(); }

  Parts data_, side_;
  std::byte* base_ = nullptr;
  std::vector<bool> used_;
  size_t free_, first_free_ = 0;
};

PagePool::PagePool(size_t data_bytes, size_t side_bytes) : data_bytes_(data_bytes), side_bytes_(side_bytes) {
  KVM_CHECK(data_bytes > 0 && side_bytes > 0);
}
PagePool::~PagePool() = default;

size_t PagePool::resident() const {
  size_t bytes = 0;
  for (const auto& segment : segments_) bytes += segment->resident();
  return bytes;
}

void PagePool::check_memory(size_t count) const {
  const size_t wanted = count * page_bytes(), limit = limit_ - std::min(limit_, used());
  const size_t available = std::min(available_memory(), limit);
  if (wanted <= available) return;
  throw Error(cat("the KV cache needs ", (wanted + (1U << 20) - 1) >> 20, " MiB more, but ", available >> 20,
                  " MiB are available (it holds ", used() >> 20,
                  " MiB); use a shorter text, a smaller --kv-budget, or a smaller cache type"));
}

void PagePool::grow(size_t pages) {
  const size_t per_segment = std::max<size_t>(1, kSegmentBytes / page_bytes());
  std::vector<std::unique_ptr<Segment>> fresh;
  for (size_t got = 0; got < pages; got += per_segment)
    fresh.push_back(std::make_unique<Segment>(data_bytes_, side_bytes_, per_segment));
  segments_.reserve(segments_.size() + fresh.size());  // nothing throws from here on
  free_ += fresh.size() * per_segment;
  for (auto& segment : fresh) segments_.push_back(std::move(segment));
  const auto by_address = [](const auto& a, const auto& b) { return std::less<>()(a->base(), b->base()); };
  std::sort(segments_.begin(), segments_.end(), by_address);
}

std::vector<Page> PagePool::take(size_t count) {
  std::vector<Page> pages;
  if (count == 0) return pages;
  check_memory(count);
  pages.reserve(count);
  if (free_ < count) grow(count - free_);
  for (const auto& segment : segments_) {
    while (segment->free() > 0 && pages.size() < count) pages.push_back(segment->take());
  }
  KVM_CHECK(pages.size() == count);
  free_ -= count;
  used_ += count;
  peak_ = std::max(peak_, used_);
  return pages;
}

void PagePool::give_back(std::span<const Page> pages) noexcept {
  if (pages.empty()) return;
  const auto holder = [&](const Page& page) {  // the last segment that begins at or below the page
    const auto after =
        std::upper_bound(segments_.begin(), segments_.end(), page.data,
                         [](const std::byte* p, const auto& segment) { return std::less<>()(p, segment->base()); });
    KVM_CHECK(after != segments_.begin() && (*(after - 1))->holds(page.data));
    return (after - 1)->get();
  };
  std::vector<Segment*> changed;
  for (const Page& page : pages) {
    Segment* segment = holder(page);
    segment->give_back(page);
    if (changed.empty() || changed.back() != segment) changed.push_back(segment);
  }
  std::sort(changed.begin(), changed.end());
  changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
  for (Segment* segment : changed) segment->release();
  free_ += pages.size();
  used_ -= pages.size();
  std::erase_if(segments_, [&](const auto& segment) {
    if (segment->empty()) free_ -= segment->free();
    return segment->empty();
  });
}

}  // namespace kvmerger::kv
