// How many rows each (layer, KV head) may keep. Sizes become rows here and nowhere else.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "budget/profile.h"
#include "core/options.h"

namespace kvmerger::budget {

// A size as the user writes it: `35%`, `2048` (rows per head), `64MiB` (also KiB, GiB), `auto:0.1` (as few rows as the
// predicted error allows; `auto` is auto:0.1).
struct Size {
  enum class Unit { kShare, kRows, kBytes, kError } unit;
  uint64_t amount;   // kShare: millionths of the rows; kRows: rows per head; kBytes: bytes; kError: millionths
  std::string text;  // as written
};

// Throws UsageError, saying the forms, on anything else, on 0 and below, on shares over 100 % and on errors of 1 and
// above.
Size parse_size(std::string_view text);

// What a way to share rows out may ask to see of the rows.
enum class Scores { kNone, kPolicy, kReconstruction };

struct Request {
  uint32_t layers = 0, heads = 0;
  std::vector<uint32_t> have;                   // [layers * heads] rows now
  std::vector<uint8_t> whole;                   // [layers] 1: the policy leaves this layer alone
  uint64_t total = 0;                           // rows to share out over all heads
  std::vector<std::vector<float>> scores = {};  // [layers * heads][have] larger = keep; empty unless asked for
  const Profile* profile = nullptr;             // of the model; null unless asked for
};

// Rows in all heads together that `size` allows, when every head had the rows of `have`. page_bytes: memory of one page
// of 16 rows, so that a byte budget holds to the page. Shares are rounded down in integers. Throws Error when bytes do
// not suffice for one page per head. An error says nothing of rows by itself: aborts on kError.
uint64_t total_rows(const Size& size, std::span<const uint32_t> have, size_t page_bytes);

struct Result {
  std::vector<uint32_t> rows;  // [layers * heads], 1 <= rows <= have (0 where have is 0)
  std::string note;            // something the user should know (printed and put in the report), or empty
};

// The heads that share `total` out: all, or those of the layers that are not left whole.
struct Pool {
  std::vector<uint32_t> heads;  // layer * heads + head, rising
  uint64_t total = 0;
};

class HeadBudget {
 public:
  virtual ~HeadBudget() = default;
  virtual void options(OptionVisitor&) {}
  virtual Scores scores() const { return Scores::kNone; }
  virtual bool needs_profile() const { return false; }
  // Shares request.total out: the sum of rows is exactly min(total, sum of have), except that every head gets at least
  // one row and that layers marked whole keep all. When whole layers leave the others fewer than 8 rows a head, they
  // are not kept whole and the note says so.
  Result rows(const Request& request) const;

 protected:
  // [pool.heads] rows wished for, in proportion: scaled by one factor and held within 1 .. have they become rows.
  virtual std::vector<double> wishes(const Request& request, const Pool& pool) const = 0;
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
