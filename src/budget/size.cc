#include <algorithm>
#include <charconv>
#include <numeric>

#include "budget/budget.h"
#include "core/error.h"

namespace kvmerger::budget {
namespace {

constexpr uint64_t kPageRows = 16;
constexpr uint64_t kMillion = 1000000;

[[noreturn]] void bad(std::string_view text, std::string_view why) {
  throw UsageError(cat(
      "'", text, "' is not a size", why,
      "; write a share of the rows (35%, 12.5%), rows per head (2048), memory (512KiB, 64MiB, 1GiB) or the error to ",
      "stay within (auto:0.1)"));
}

// Digits only: no sign, no space, no exponent.
uint64_t parse_whole(std::string_view digits, std::string_view text) {
  uint64_t value = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) bad(text, ": the number is too large");
  if (error != std::errc() || stop != digits.data() + digits.size()) bad(text, "");
  return value;
}

// A number of at most `most` with up to so many decimals, in units of the last of them.
uint64_t parse_decimal(std::string_view number, uint32_t places, uint64_t most, std::string_view text) {
  const size_t point = number.find('.');
  std::string decimals(point == std::string_view::npos ? "" : number.substr(point + 1));
  if (point != std::string_view::npos && decimals.empty()) bad(text, "");
  if (decimals.size() > places) bad(text, cat(": at most ", places, " decimals"));
  decimals.resize(places, '0');
  const uint64_t whole = parse_whole(number.substr(0, point), text);
  uint64_t unit = 1;
  for (uint32_t place = 0; place < places; ++place) unit *= 10;
  const uint64_t value = whole > most ? UINT64_MAX : whole * unit + parse_whole(decimals, text);
  if (value > most * unit) bad(text, cat(": more than ", most == 100 ? "100 %" : "1"));
  return value;
}

// What follows `auto`: nothing, or a colon and an error.
uint64_t parse_error(std::string_view error, std::string_view text) {
  if (error.empty()) return kMillion / 10;
  if (!error.starts_with(':')) bad(text, "");
  const uint64_t value = parse_decimal(error.substr(1), 6, 1, text);
  if (value == kMillion) bad(text, ": a relative error must be less than 1");
  return value;
}

uint64_t parse_bytes(std::string_view number, uint32_t shift, std::string_view text) {
  const uint64_t value = parse_whole(number, text);
  if (value > (UINT64_MAX >> shift)) bad(text, ": the number is too large");
  return value << shift;
}

uint64_t sum(std::span<const uint32_t> counts) { return std::accumulate(counts.begin(), counts.end(), uint64_t{0}); }

// Rows that fit in `bytes` however they are shared out: each head may leave all but one slot of its last page empty.
uint64_t rows_in(const Size& size, std::span<const uint32_t> have, size_t page_bytes) {
  const uint64_t pages = size.amount / page_bytes;
  uint64_t heads = 0, wanted = 0;  // heads that hold rows; pages that all rows take
  for (uint32_t rows : have) {
    heads += rows > 0;
    wanted += (rows + kPageRows - 1) / kPageRows;
  }
  if (pages < heads) {
    throw Error(cat("a budget of ", size.text, " is too small: one page of ", kPageRows, " rows for each of ", heads,
                    " heads takes ", (heads * page_bytes + 1023) / 1024, "KiB"));
  }
  return pages >= wanted ? sum(have) : kPageRows * pages - (kPageRows - 1) * heads;
}

}  // namespace

Size parse_size(std::string_view text) {
  Size size{Size::Unit::kBytes, 0, std::string(text)};
  if (text.ends_with('%')) {
    size.unit = Size::Unit::kShare;
    size.amount = parse_decimal(text.substr(0, text.size() - 1), 4, 100, text);
  } else if (text.starts_with("auto")) {
    size.unit = Size::Unit::kError;
    size.amount = parse_error(text.substr(4), text);
  } else if (text.ends_with("KiB") || text.ends_with("MiB") || text.ends_with("GiB")) {
    const char unit = text[text.size() - 3];
    size.amount = parse_bytes(text.substr(0, text.size() - 3), unit == 'K' ? 10 : unit == 'M' ? 20 : 30, text);
  } else {
    size.unit = Size::Unit::kRows;
    size.amount = parse_whole(text, text);
    if (size.amount > UINT32_MAX) bad(text, ": the number is too large");
  }
  if (size.amount == 0) bad(text, ": it must be more than 0");
  return size;
}

uint64_t total_rows(const Size& size, std::span<const uint32_t> have, size_t page_bytes) {
  switch (size.unit) {
    case Size::Unit::kShare:
      return sum(have) * size.amount / kMillion;
    case Size::Unit::kRows:
      return std::min(size.amount * have.size(), sum(have));
    case Size::Unit::kBytes:
      return rows_in(size, have, page_bytes);
    case Size::Unit::kError:
      break;
  }
  KVM_CHECK(!"a size is a share, rows or bytes once its rows are asked for");
  return 0;
}

}  // namespace kvmerger::budget
