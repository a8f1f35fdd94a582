// How many rows each (layer, KV head) may keep. Sizes become rows here and nowhere else.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/options.h"

namespace kvmerger::budget {

// A size as the user writes it: `35%`, `2048` (rows per head), `64MiB` (also KiB, GiB).
struct Size {
  enum class Unit { kShare, kRows, kBytes } unit;
  uint64_t amount;   // kShare: millionths of the rows; kRows: rows per head; kBytes: bytes
  std::string text;  // as written
};

// Throws UsageError, saying the three forms, on anything else, on 0 and below, and on shares over 100 %.
Size parse_size(std::string_view text);

struct Request {
  uint32_t layers = 0, heads = 0;
  std::vector<uint32_t> have;  // [layers * heads] rows now
  std::vector<uint8_t> whole;  // [layers] 1: the policy leaves this layer alone
  uint64_t total = 0;          // rows to share out over all heads
};

// Rows in all heads together that `size` allows. page_bytes: memory of one page of 16 rows, so that a byte budget holds
// to the page. Shares are rounded down in integers. Throws Error when bytes do not suffice for one page per head.
uint64_t total_rows(const Size& size, std::span<const uint32_t> have, size_t page_bytes);

struct Result {
  std::vector<uint32_t> rows;  // [layers * heads], 1 <= rows <= have (0 where have is 0)
  std::string note;            // something the user should know (printed and put in the report), or empty
};

class HeadBudget {
 public:
  virtual ~HeadBudget() = default;
  virtual void options(OptionVisitor&) {}
  // Shares request.total out: the sum of rows is exactly min(total, sum of have), except that every head gets at least
  // one row and that layers marked whole keep all. When whole layers leave the others fewer than 8 rows a head, they
  // are not kept whole and the note says so.
  virtual Result rows(const Request& request) const = 0;
};

struct Entry {
  const char* name;
  const char* line;
  const char* source;
  std::unique_ptr<HeadBudget> (*make)();
};

std::span<const Entry> all();
std::unique_ptr<HeadBudget> make(const std::string& spec);

}  // namespace kvmerger::budget
