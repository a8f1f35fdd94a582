// Sizes as users write them, and what they allow.
#include <doctest/doctest.h>

#include "budget/budget.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

using Unit = Size::Unit;

TEST_CASE("the forms of a size") {
  const auto check = [](const char* text, Unit unit, uint64_t amount) {
    CAPTURE(text);
    const Size size = parse_size(text);
    CHECK(size.unit == unit);
    CHECK(size.amount == amount);
    CHECK(size.text == text);
  };
  check("35%", Unit::kShare, 350000);
  check("12.5%", Unit::kShare, 125000);
  check("0.0001%", Unit::kShare, 1);
  check("33.3333%", Unit::kShare, 333333);
  check("100%", Unit::kShare, 1000000);
  check("100.0000%", Unit::kShare, 1000000);
  check("2048", Unit::kRows, 2048);
  check("1", Unit::kRows, 1);
  check("4294967295", Unit::kRows, 4294967295);
  check("512KiB", Unit::kBytes, 512 * 1024);
  check("64MiB", Unit::kBytes, 64 * 1024 * 1024);
  check("1GiB", Unit::kBytes, 1024 * 1024 * 1024);
  check("auto", Unit::kError, 100000);
  check("auto:0.1", Unit::kError, 100000);
  check("auto:0.000001", Unit::kError, 1);
  check("auto:0.05", Unit::kError, 50000);
  check("auto:0.999999", Unit::kError, 999999);
}

TEST_CASE("anything else is refused with the forms") {
  for (const char* text : {"",
                           "%",
                           "KiB",
                           "abc",
                           "35 %",
                           " 35%",
                           "-5",
                           "+5",
                           "-5%",
                           "35%%",
                           "1e3",
                           "0x10",
                           "3.5",
                           "35.%",
                           ".5%",
                           "1.5GiB",
                           "64MB",
                           "64 MiB",
                           "64mib",
                           "64M",
                           "NaN",
                           "inf",
                           "2048rows",
                           "0",
                           "0%",
                           "0.0%",
                           "0MiB",
                           "100.0001%",
                           "101%",
                           "1000%",
                           "12.34567%",
                           "1844674407370956%",
                           "4294967296",
                           "99999999999999999999",
                           "99999999999999999999%",
                           "18014398509481985KiB",
                           "auto:",
                           "auto:0",
                           "auto:0.0",
                           "auto:1",
                           "auto:1.000000",
                           "auto:2",
                           "auto:-0.1",
                           "auto:+0.1",
                           "auto:.1",
                           "auto:0.",
                           "auto:0.0000001",
                           "auto:1e-2",
                           "auto:10%",
                           "auto:0.1MiB",
                           "auto:nan",
                           "auto:0,1",
                           "auto: 0.1",
                           "auto:0.1 ",
                           "auto:18446744073709551616",
                           "auto0.1",
                           "auto=0.1",
                           "automatic",
                           "Auto",
                           "0.1"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(parse_size(text), doctest::Contains("12.5%"), UsageError);
    CHECK_THROWS_WITH_AS(parse_size(text), doctest::Contains("2048"), UsageError);
    CHECK_THROWS_WITH_AS(parse_size(text), doctest::Contains("64MiB"), UsageError);
    CHECK_THROWS_WITH_AS(parse_size(text), doctest::Contains("auto:0.1"), UsageError);
  }
}

uint64_t total(const char* size, std::vector<uint32_t> have, size_t page_bytes = 1000) {
  return total_rows(parse_size(size), have, page_bytes);
}

TEST_CASE("shares are rounded down over all heads together") {
  CHECK(total("35%", {100, 100}) == 70);
  CHECK(total("35%", {101, 100}) == 70);
  CHECK(total("10%", {9}) == 0);
  CHECK(total("100%", {7, 9, 0}) == 16);
  // In binary floating point 100 x (1 - 0.9) falls short of 10.
  CHECK(total("10%", {100}) == 10);
  CHECK(total("33.3333%", std::vector<uint32_t>(1000, 4000000000U)) == 1333332000000);
}

TEST_CASE("rows are per head, and no more than there are") {
  CHECK(total("50", {100, 100, 100}) == 150);
  CHECK(total("50", {100, 20}) == 100);
  CHECK(total("50", {60, 20}) == 80);
  CHECK(total("4294967295", {60, 20}) == 80);
}

TEST_CASE("bytes hold to the page however the rows are shared out") {
  CHECK(total("1KiB", {16}, 1024) == 16);
  CHECK(total("1KiB", {17}, 1024) == 1);      // not all fits: the page may have to hold any head
  CHECK(total("2KiB", {20, 20}, 1024) == 2);  // one page per head
  CHECK(total("10KiB", {500, 500}, 1024) == 10 * 16 - 2 * 15);
  CHECK(total("10KiB", {500, 0, 500}, 1024) == 10 * 16 - 2 * 15);  // a head without rows takes no page
  CHECK(total("64KiB", {500, 500}, 1024) == 1000);                 // 32 pages each
  CHECK(total("1GiB", {500, 500}, 1024) == 1000);
}

TEST_CASE("the worst way to share rows out stays within the bytes") {
  for (uint64_t pages = 3; pages < 60; ++pages) {
    const std::vector<uint32_t> have{300, 200, 400};
    const uint64_t rows = total_rows({Unit::kBytes, pages * 100, "x"}, have, 100);
    // Two heads with one row more than a multiple of 16, the third with the rest.
    for (uint64_t first = 1; first < std::min<uint64_t>(rows, 300); first += 16) {
      for (uint64_t second = 1; first + second < rows && second < 200; second += 16) {
        const uint64_t third = rows - first - second;
        if (third > 400) continue;
        CHECK((first + 15) / 16 + (second + 15) / 16 + (third + 15) / 16 <= pages);
      }
    }
  }
}

TEST_CASE("too few bytes for a page per head: the message says how many it takes") {
  CHECK_THROWS_WITH_AS(total("2KiB", {20, 20, 20}, 1500), doctest::Contains("3 heads takes 5KiB"), Error);
  CHECK_THROWS_WITH_AS(total("2KiB", {20, 20, 20}, 1500), doctest::Contains("2KiB"), Error);
  CHECK_THROWS_AS(total("2KiB", {20, 20, 20}, 1024), Error);
  CHECK_NOTHROW(total("2KiB", {20, 0, 20}, 1024));
}

}  // namespace
}  // namespace kvmerger::budget
