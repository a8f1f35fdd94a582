#include "kv/pool.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>

#include "core/error.h"
#include "core/rng.h"

namespace kvmerger::kv {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

size_t system_page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

bool is_zero(const std::byte* page, size_t bytes) {
  return std::all_of(page, page + bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

// The system refuses to touch what is not mapped.
bool is_mapped(std::byte* page) {
  std::byte* begin = page - reinterpret_cast<uintptr_t>(page) % system_page();
  return msync(begin, 1, MS_ASYNC) == 0 || errno != ENOMEM;
}

// What the pool should hold: page numbers of one segment.
class Model {
 public:
  explicit Model(size_t page_bytes) : page_bytes_(page_bytes) {}

  std::vector<size_t> take(size_t count) {
    std::vector<size_t> taken;
    for (size_t page = 0; taken.size() < count; ++page) {
      if (used_.insert(page).second) taken.push_back(page);
    }
    peak_ = std::max(peak_, used_.size());
    return taken;
  }
  void give_back(size_t page) { used_.erase(page); }

  const std::set<size_t>& used() const { return used_; }
  size_t peak() const { return peak_; }
  // Every system page that a byte of a used page lies in.
  size_t resident() const {
    std::set<size_t> touched;
    for (const size_t page : used_) {
      for (size_t byte = page * page_bytes_; byte < (page + 1) * page_bytes_; ++byte)
        touched.insert(byte / system_page());
    }
    return touched.size() * system_page();
  }

 private:
  size_t page_bytes_, peak_ = 0;
  std::set<size_t> used_;
};

void check_equal(const PagePool& pool, const Model& model) {
  CHECK(pool.used() == model.used().size() * pool.page_bytes());
  CHECK(pool.peak() == model.peak() * pool.page_bytes());
  CHECK(pool.resident() == model.resident());
}

std::vector<std::byte*> some_of(const std::vector<std::byte*>& pages, Rng& rng, double chance) {
  std::vector<std::byte*> some;
  for (std::byte* page : pages) {
    if (rng.uniform() < chance) some.push_back(page);
  }
  return some;
}

}  // namespace

TEST_CASE("pool: random takes and returns agree with a set of numbers") {
  for (const size_t page_bytes : {size_t{192}, size_t{1000}, size_t{4096}, size_t{4288}, size_t{12288}}) {
    CAPTURE(page_bytes);
    PagePool pool(page_bytes);
    Model model(page_bytes);
    Rng rng(page_bytes);
    std::byte* base = pool.take(1)[0];  // stays, so that the segment does too
    model.take(1);
    for (uint32_t step = 0; step < 60; ++step) {
      const std::vector<size_t> expected = model.take(rng.below(12));
      const std::vector<std::byte*> pages = pool.take(expected.size());
      REQUIRE(pages.size() == expected.size());
      for (size_t index = 0; index < pages.size(); ++index) {
        REQUIRE(pages[index] == base + expected[index] * page_bytes);  // the lowest free ones, in order
        REQUIRE(is_zero(pages[index], page_bytes));
        std::memset(pages[index], 0xa5, page_bytes);
      }
      check_equal(pool, model);
      std::vector<std::byte*> back;
      for (const size_t page : std::set<size_t>(model.used())) {
        if (page == 0 || rng.uniform() > 0.3) continue;
        back.push_back(base + page * page_bytes);
        model.give_back(page);
      }
      std::reverse(back.begin(), back.end());
      pool.give_back(back);
      check_equal(pool, model);
    }
  }
}

TEST_CASE("pool: used pages keep their bytes while others come and go") {
  PagePool pool(1000);
  Rng rng(1);
  const std::vector<std::byte*> pages = pool.take(50);
  for (size_t index = 0; index < pages.size(); ++index) std::memset(pages[index], static_cast<int>(index), 1000);
  std::vector<std::byte*> odd;
  for (size_t index = 1; index < pages.size(); index += 2) odd.push_back(pages[index]);
  pool.give_back(odd);
  pool.take(10);
  for (size_t index = 0; index < pages.size(); index += 2) {
    CHECK(std::all_of(pages[index], pages[index] + 1000, [&](std::byte byte) { return byte == std::byte(index); }));
  }
}

TEST_CASE("pool: many segments fill from the lowest address, and empty ones are unmapped") {
  PagePool pool(kMiB);
  Rng rng(2);
  const std::vector<std::byte*> pages = pool.take(40);
  CHECK(std::is_sorted(pages.begin(), pages.end()));
  CHECK(pool.resident() == 40 * kMiB);
  std::vector<std::byte*> back = some_of(pages, rng, 0.5);
  pool.give_back(back);
  CHECK(pool.used() == (40 - back.size()) * kMiB);
  CHECK(pool.resident() == (40 - back.size()) * kMiB);
  const size_t again = back.size() - 3;
  back.resize(again);  // sorted, so these are the lowest
  CHECK(pool.take(again) == back);

  PagePool other(kMiB);
  const std::vector<std::byte*> first = other.take(1), rest = other.take(100);
  other.give_back(rest);
  CHECK(other.resident() == kMiB);
  CHECK(is_mapped(first[0]));
  size_t mapped = 0;
  for (std::byte* page : rest) mapped += is_mapped(page) ? 1 : 0;
  CHECK(mapped < 16);  // what shares the segment of the page that stays
  CHECK(other.peak() == 101 * kMiB);
}

TEST_CASE("pool: an empty pool holds nothing, and a page is found again in a new mapping") {
  PagePool pool(5000);
  const std::vector<std::byte*> pages = pool.take(7);
  CHECK(is_mapped(pages[0]));
  pool.give_back(pages);
  CHECK_FALSE(is_mapped(pages[0]));
  CHECK(pool.used() == 0);
  CHECK(pool.resident() == 0);
  CHECK(pool.peak() == 35000);
  CHECK(is_zero(pool.take(1)[0], 5000));
  CHECK(pool.used() == 5000);
}

TEST_CASE("pool: nothing of nothing") {
  PagePool pool(64);
  CHECK(pool.take(0).empty());
  pool.give_back({});
  CHECK(pool.used() == 0);
  CHECK(pool.resident() == 0);
}

TEST_CASE("pool: the end of the pool unmaps its pages") {
  std::byte* page = nullptr;
  {
    PagePool pool(4096);
    page = pool.take(1)[0];
  }
  CHECK_FALSE(is_mapped(page));
}

TEST_CASE("pool: more than the limit is refused with the figures, and nothing changes") {
  PagePool pool(kMiB / 2);
  pool.set_limit_for_test(10 * kMiB);
  const std::vector<std::byte*> held = pool.take(6);
  const size_t resident = pool.resident();
  std::string message;
  try {
    pool.take(16);  // 8 MiB more, but 7 are left
  } catch (const Error& error) {
    message = error.what();
  }
  INFO(message);
  CHECK(message.find("needs 8 MiB more") != std::string::npos);
  CHECK(message.find("7 MiB are available") != std::string::npos);
  CHECK(message.find("holds 3 MiB") != std::string::npos);
  CHECK(message.find("--kv-budget") != std::string::npos);
  CHECK(pool.used() == 3 * kMiB);
  CHECK(pool.peak() == 3 * kMiB);
  CHECK(pool.resident() == resident);
  CHECK(pool.take(14).size() == 14);
  CHECK_THROWS_AS(pool.take(1), Error);
  pool.give_back(held);
  CHECK(pool.take(6) == held);
}

TEST_CASE("pool: more than any machine has is refused") {
  PagePool pool(kMiB);
  CHECK_THROWS_AS(pool.take(size_t{1} << 40), Error);
  CHECK(pool.used() == 0);
  CHECK(pool.resident() == 0);
  const size_t available = available_memory();
  CHECK(available > kMiB);
  CHECK(available < size_t{1} << 50);
}

}  // namespace kvmerger::kv
