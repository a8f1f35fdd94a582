#include "kv/pool.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/rng.h"

namespace kvmerger::kv {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

size_t system_page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

bool all_are(const std::byte* part, size_t bytes, uint8_t expected) {
  return std::all_of(part, part + bytes, [&](std::byte byte) { return byte == std::byte{expected}; });
}

// The system refuses to touch what is not mapped.
bool is_mapped(const Page& page) {
  std::byte* begin = page.data - reinterpret_cast<uintptr_t>(page.data) % system_page();
  return msync(begin, 1, MS_ASYNC) == 0 || errno != ENOMEM;
}

// What the pool should hold: page numbers of one segment.
class Model {
 public:
  Model(size_t data_bytes, size_t side_bytes) : data_bytes_(data_bytes), side_bytes_(side_bytes) {}

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
  size_t resident() const { return (touched(data_bytes_) + touched(side_bytes_)) * system_page(); }

 private:
  // System pages that a byte of a used page's part lies in.
  size_t touched(size_t part_bytes) const {
    std::set<size_t> found;
    for (const size_t page : used_) {
      for (size_t byte = page * part_bytes; byte < (page + 1) * part_bytes; ++byte) found.insert(byte / system_page());
    }
    return found.size();
  }

  size_t data_bytes_, side_bytes_, peak_ = 0;
  std::set<size_t> used_;
};

void check_equal(const PagePool& pool, const Model& model) {
  CHECK(pool.used() == model.used().size() * pool.page_bytes());
  CHECK(pool.peak() == model.peak() * pool.page_bytes());
  CHECK(pool.resident() == model.resident());
}

std::vector<Page> some_of(const std::vector<Page>& pages, Rng& rng, double chance) {
  std::vector<Page> some;
  for (const Page& page : pages) {
    if (rng.uniform() < chance) some.push_back(page);
  }
  return some;
}

}  // namespace

TEST_CASE("pool: random takes and returns agree with a set of numbers") {
  const std::pair<size_t, size_t> sizes[] = {{192, 64}, {1000, 8}, {1000, 1000}, {4096, 192}, {12288, 384}};
  for (const auto& [data, side] : sizes) {
    CAPTURE(data);
    CAPTURE(side);
    PagePool pool(data, side);
    Model model(data, side);
    Rng rng(data);
    const Page base = pool.take(1)[0];  // stays, so that the segment does too
    const auto page_at = [&](size_t index) { return Page{base.data + index * data, base.side + index * side}; };
    model.take(1);
    for (uint32_t step = 0; step < 60; ++step) {
      const std::vector<size_t> expected = model.take(rng.below(12));
      const std::vector<Page> pages = pool.take(expected.size());
      REQUIRE(pages.size() == expected.size());
      for (size_t index = 0; index < pages.size(); ++index) {
        REQUIRE(pages[index] == page_at(expected[index]));  // the lowest free ones, in order
        REQUIRE(all_are(pages[index].data, data, 0));
        REQUIRE(all_are(pages[index].side, side, 0));
        std::memset(pages[index].data, 0xa5, data);
        std::memset(pages[index].side, 0xa5, side);
      }
      check_equal(pool, model);
      std::vector<Page> back;
      for (const size_t page : std::set<size_t>(model.used())) {
        if (page == 0 || rng.uniform() > 0.3) continue;
        back.push_back(page_at(page));
        model.give_back(page);
      }
      std::reverse(back.begin(), back.end());
      pool.give_back(back);
      check_equal(pool, model);
    }
  }
}

TEST_CASE("pool: used pages keep their bytes while others come and go") {
  PagePool pool(1000, 200);
  const std::vector<Page> pages = pool.take(50);
  for (size_t index = 0; index < pages.size(); ++index) {
    std::memset(pages[index].data, static_cast<int>(index), 1000);
    std::memset(pages[index].side, static_cast<int>(100 + index), 200);
  }
  std::vector<Page> odd;
  for (size_t index = 1; index < pages.size(); index += 2) odd.push_back(pages[index]);
  pool.give_back(odd);
  pool.take(10);
  for (size_t index = 0; index < pages.size(); index += 2) {
    CHECK(all_are(pages[index].data, 1000, static_cast<uint8_t>(index)));
    CHECK(all_are(pages[index].side, 200, static_cast<uint8_t>(100 + index)));
  }
}

TEST_CASE("pool: many segments fill from the lowest address, and empty ones are unmapped") {
  PagePool pool(kMiB / 2, kMiB / 2);
  Rng rng(2);
  const std::vector<Page> pages = pool.take(40);
  CHECK(std::ranges::is_sorted(pages, {}, &Page::data));
  CHECK(pool.resident() == 40 * kMiB);
  std::vector<Page> back = some_of(pages, rng, 0.5);
  pool.give_back(back);
  CHECK(pool.used() == (40 - back.size()) * kMiB);
  CHECK(pool.resident() == (40 - back.size()) * kMiB);
  const size_t again = back.size() - 3;
  back.resize(again);  // sorted, so these are the lowest
  CHECK(pool.take(again) == back);

  PagePool other(kMiB / 2, kMiB / 2);
  const std::vector<Page> first = other.take(1), rest = other.take(100);
  other.give_back(rest);
  CHECK(other.resident() == kMiB);
  CHECK(is_mapped(first[0]));
  size_t mapped = 0;
  for (const Page& page : rest) mapped += is_mapped(page) ? 1 : 0;
  CHECK(mapped < 16);  // what shares the segment of the page that stays
  CHECK(other.peak() == 101 * kMiB);
}

TEST_CASE("pool: an empty pool holds nothing, and a page is found again in a new mapping") {
  PagePool pool(4000, 1000);
  const std::vector<Page> pages = pool.take(7);
  CHECK(is_mapped(pages[0]));
  pool.give_back(pages);
  CHECK_FALSE(is_mapped(pages[0]));
  CHECK(pool.used() == 0);
  CHECK(pool.resident() == 0);
  CHECK(pool.peak() == 35000);
  const Page page = pool.take(1)[0];
  CHECK(all_are(page.data, 4000, 0));
  CHECK(all_are(page.side, 1000, 0));
  CHECK(pool.used() == 5000);
}

TEST_CASE("pool: nothing of nothing") {
  PagePool pool(64, 64);
  CHECK(pool.take(0).empty());
  pool.give_back({});
  CHECK(pool.used() == 0);
  CHECK(pool.resident() == 0);
}

TEST_CASE("pool: the end of the pool unmaps its pages") {
  Page page{};
  {
    PagePool pool(4096, 192);
    page = pool.take(1)[0];
  }
  CHECK_FALSE(is_mapped(page));
}

TEST_CASE("pool: more than the limit is refused with the figures, and nothing changes") {
  PagePool pool(kMiB / 4, kMiB / 4);
  pool.set_limit_for_test(10 * kMiB);
  const std::vector<Page> held = pool.take(6);
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
  PagePool pool(kMiB / 2, kMiB / 2);
  CHECK_THROWS_AS(pool.take(size_t{1} << 40), Error);
  CHECK(pool.used() == 0);
  CHECK(pool.resident() == 0);
  const size_t available = available_memory();
  CHECK(available > kMiB);
  CHECK(available < size_t{1} << 50);
}

}  // namespace kvmerger::kv
