// Blocked attention over pages, for every instruction set with vectors. Rows go by in tiles of four pages. Per tile and
// block of queries: logits = Q K^T, the online softmax turns them into probabilities relative to the running maximum,
// and acc = acc * factor + P V.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "core/clock.h"
#include "kernels/dispatch.h"
#include "kernels/half.h"
#include "kernels/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/products-inl.h"
#include "kernels/quantised-inl.h"
#include "kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvmerger::kernels {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void attend_target(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
                   const ColumnStats* stats, float* /*scratch*/) {
  attend_reference(head, begin, end, queries, out, stats);
}

void add_scaled(const float* from, float scale, size_t count, float* to) {
  for (size_t index = 0; index < count; ++index) to[index] += scale * from[index];
}

#else

ScorePages score_function(RowType type, uint32_t queries) {
  if (type == RowType::kQ8) return kScoreQ8Pages[queries - 1];
  return type == RowType::kF16 ? kScorePages<Half>[queries - 1] : kScorePages<float>[queries - 1];
}
ValueColumns value_function(RowType type, uint32_t queries) {
  if (type == RowType::kQ8) return kAddQ8Values[queries - 1];
  return type == RowType::kF16 ? kValueColumns<Half>[queries - 1] : kValueColumns<float>[queries - 1];
}

// Pages of one tile, in the types they are stored in or converted to f32.
struct Tile {
  uint32_t first_row;
  TilePages pages;
};

// `count` stored values as f32.
void to_floats(const std::byte* from, RowType type, size_t count, float* to) {
  const auto convert = [&](const auto* typed) HWY_ATTR {
    size_t done = 0;
    for (; done + kLanes <= count; done += kLanes) hn::StoreU(load(typed + done), kFloats, to + done);
    if (done == count) return;
    std::remove_cv_t<std::remove_reference_t<decltype(*typed)>> rest[16] = {};
    float floats[16];
    std::copy_n(typed + done, count - done, rest);
    hn::StoreU(load(rest), kFloats, floats);
    std::copy_n(floats, count - done, to + done);
  };
  if (type == RowType::kF16) {
    convert(reinterpret_cast<const Half*>(from));
  } else {
    convert(reinterpret_cast<const float*>(from));
  }
}

class Attention {
 public:
  Attention(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const ColumnStats* stats,
            float* scratch)
      : head_(head),
        begin_(begin),
        end_(end),
        queries_(queries),
        stats_(stats),
        layout_(queries.count, end - begin, head.head_dim, stats != nullptr),
        blocks_((queries.count + kMaxBlock - 1) / kMaxBlock),
        convert_key_(convert_once(head.key_type)),
        convert_value_(convert_once(head.value_type) || head.head_dim % 16 != 0),  // the kernel reads whole panels
        scratch_(aligned(scratch)) {}

  void run(const Partial& out) {
    pack_queries();
    std::fill_n(scratch_ + layout_.acc, queries_.count * layout_.padded_dim, 0.0f);
    uint32_t farthest = begin_;
    for (uint32_t query = 0; query < queries_.count; ++query) farthest = std::max(farthest, last_row(query));
    const uint32_t tiles = tiles_of(farthest - begin_);
    for (uint32_t tile = 0; tile < tiles; ++tile) attend_tile(tile);
    write_out(out);
    if (stats_ != nullptr) add_all_stats(tiles, out);
  }

 private:
  bool convert_once(RowType type) const { return !kConvertsInRegisters && blocks_ > 1 && type == RowType::kF16; }
  uint32_t block_begin(uint32_t block) const { return queries_.count * block / blocks_; }
  // Queries see rows below this one.
  uint32_t last_row(uint32_t query) const {
    return queries_.visible == nullptr ? end_ : std::min(end_, queries_.visible[query]);
  }
  uint32_t seen(uint32_t query, uint32_t first_row) const {
    return std::min(kTileRows, std::max(last_row(query), first_row) - first_row);
  }
  float* probabilities(uint32_t tile) const {
    const size_t kept = stats_ == nullptr ? 0 : tile;
    return scratch_ + layout_.probabilities + kept * queries_.count * kTileRows;
  }
  float* maxima(uint32_t tile) const { return scratch_ + layout_.maxima + size_t{tile} * queries_.count; }

  float* packed(uint32_t first_query) const { return scratch_ + layout_.packed + size_t{first_query} * head_.head_dim; }

  // Queries scaled for logits in units of ln 2, each block transposed to [head_dim, queries of the block] or as q8_0
  // keys want them.
  void pack_queries() {
    const float scale = queries_.scale * kLog2E;
    for (uint32_t block = 0; block < blocks_; ++block) {
      const uint32_t first = block_begin(block), last = block_begin(block + 1);
      float* to = packed(first);
      if (head_.key_type == RowType::kQ8) {
        pack_q8_queries(queries_.data + first, last - first, head_.head_dim, scale, to);
        continue;
      }
      for (uint32_t dim = 0; dim < head_.head_dim; ++dim) {
        for (uint32_t query = first; query < last; ++query) *to++ = queries_.data[query][dim] * scale;
      }
    }
  }

  Tile load_tile(uint32_t first_row) {
    const uint32_t first = first_row / kPageRows, pages = pages_of(end_);
    const PageView* here = head_.pages + first;
    if (convert_key_ || convert_value_) {
      here = convert(here, std::min(kTilePages, pages - first));
      return {first_row, {here, here}};
    }
    // The next four pages, or the last four when there are fewer: a partly filled tile is fetched, too. Beyond the end
    // of the range as well, since its caller mostly goes on there.
    const uint32_t next = first + kTilePages, all = pages_of(head_.rows);
    return {first_row, {here, head_.pages + std::min(next, std::max(next, all) - kTilePages)}};
  }

  // Copies of pages with the parts that are to be converted as f32.
  const PageView* convert(const PageView* pages, uint32_t count) {
    const size_t key_floats = size_t{kPageRows} * head_.head_dim, value_floats = kPageRows * layout_.padded_dim;
    for (uint32_t index = 0; index < count; ++index) {
      converted_[index] = pages[index];
      if (convert_key_) {
        float* keys = scratch_ + layout_.keys + index * key_floats;
        to_floats(pages[index].key, head_.key_type, key_floats, keys);
        converted_[index].key = reinterpret_cast<const std::byte*>(keys);
      }
      if (convert_value_) {
        float* values = scratch_ + layout_.values + index * value_floats;
        for (uint32_t row = 0; row < kPageRows; ++row) {
          float* to = values + row * layout_.padded_dim;
          value_row(pages[index].value, row, to);
          std::fill(to + head_.head_dim, to + layout_.padded_dim, 0.0f);
        }
        converted_[index].value = reinterpret_cast<const std::byte*>(values);
      }
    }
    return converted_;
  }

  // The value in one slot of a page as f32.
  void value_row(const std::byte* values, uint32_t slot, float* to) const {
    const size_t first = size_t{slot} * head_.head_dim;
    if (head_.value_type != RowType::kQ8) {
      to_floats(values + first * element_bytes(head_.value_type), head_.value_type, head_.head_dim, to);
      return;
    }
    const auto* scales = reinterpret_cast<const uint16_t*>(values + size_t{kPageRows} * head_.head_dim);
    for (uint32_t dim = 0; dim < head_.head_dim; ++dim) {
      const float scale = float_from_half(scales[dim / kScaleBlock * kPageRows + slot]);
      const size_t index = q8_value_index(head_.head_dim, slot, dim);
      to[dim] = scale * static_cast<float>(reinterpret_cast<const int8_t*>(values)[index]);
    }
  }

  void attend_tile(uint32_t index) {
    const Tile tile = load_tile(begin_ + index * kTileRows);
    for (uint32_t block = 0; block < blocks_; ++block) {
      const uint32_t first = block_begin(block), last = block_begin(block + 1);
      float* logits = probabilities(index) + size_t{first} * kTileRows;
      uint32_t rows = 0;
      for (uint32_t query = first; query < last; ++query) rows = std::max(rows, seen(query, tile.first_row));
      if (rows > 0) attend_block(tile, first, last, rows, logits);
      if (stats_ != nullptr) keep_for_stats(index, first, last, pages_of(rows) * kPageRows);
    }
  }

  void attend_block(const Tile& tile, uint32_t first, uint32_t last, uint32_t rows, float* logits) {
    const uint32_t count = last - first;
    const uint32_t pages = pages_of(rows);
    const ScorePages score = score_function(convert_key_ ? RowType::kF32 : head_.key_type, count);
    score(packed(first), head_.head_dim, tile.pages, pages, logits);

    const auto biased = [](const PageView& page) { return page.bias != nullptr; };
    const PageView* here = tile.pages.here;
    const bool converted = convert_key_ || convert_value_;  // then nothing is fetched ahead
    const SoftmaxTile softmax{tile.pages, pages, std::any_of(here, here + pages, biased),
                              converted ? 0 : part_bytes(head_.key_type, head_.head_dim)};
    float factors[kMaxBlock];
    for (uint32_t query = 0; query < count; ++query) {
      const uint32_t columns = seen(first + query, tile.first_row);
      float* row = logits + size_t{query} * kTileRows;
      factors[query] = softmax_tile(softmax, query, row, columns, running_[first + query]);
    }

    const size_t stride = convert_value_ ? layout_.padded_dim : head_.head_dim;
    const ValueTile values{logits, tile.pages, stride, rows};
    float* acc = scratch_ + layout_.acc + first * layout_.padded_dim;
    const ValueColumns add = value_function(convert_value_ ? RowType::kF32 : head_.value_type, count);
    add(values, factors, acc, layout_.padded_dim);
  }

  // The probabilities of the tile stay where they are, complete to the tile's width; beside them what they refer to.
  void keep_for_stats(uint32_t tile, uint32_t first, uint32_t last, uint32_t filled) {
    for (uint32_t query = first; query < last; ++query) {
      maxima(tile)[query] = running_[query].max;
      float* row = probabilities(tile) + size_t{query} * kTileRows;
      std::fill(row + filled, row + kTileRows, 0.0f);
    }
  }

  void write_out(const Partial& out) const {
    for (uint32_t query = 0; query < queries_.count; ++query) {
      out.max[query] = running_[query].max * kLn2;
      out.sum[query] = hn::GetLane(hn::SumOfLanes(kFloats, load(running_[query].sums)));
      const float* acc = scratch_ + layout_.acc + query * layout_.padded_dim;
      std::copy_n(acc, head_.head_dim, out.acc + size_t{query} * head_.head_dim);
    }
  }

  void add_all_stats(uint32_t tiles, const Partial& out) const {
    const Clock::time_point start = Clock::now();
    for (uint32_t tile = 0; tile < tiles; ++tile) add_stats(tile, out);
    if (stats_->seconds != nullptr) *stats_->seconds += seconds_since(start);
  }

  // Column sums and maxima of the tile's probabilities, now that it is known what to divide them by.
  void add_stats(uint32_t tile, const Partial& out) const {
    float weights[kMaxQueries], window_weights[kMaxQueries];
    for (uint32_t query = 0; query < queries_.count; ++query) {
      const float max = maxima(tile)[query], final_max = running_[query].max, sum = out.sum[query];
      const float power = max == final_max ? 1.0f : std::exp2(max - final_max);
      weights[query] = sum > 0 ? power / sum : 0.0f;
      const bool in_window = stats_->window != nullptr && stats_->in_window[query] != 0;
      window_weights[query] = in_window ? weights[query] : 0.0f;
    }
    const uint32_t first_row = begin_ + tile * kTileRows;
    const uint32_t rows = std::min(kTileRows, end_ - first_row);
    for (uint32_t column = 0; column < rows; column += kPageRows) {
      const uint32_t count = std::min(kPageRows, rows - column);
      add_columns(probabilities(tile) + column, weights, window_weights, count, first_row + column);
    }
  }

  // Statistics of up to 16 rows from mass [queries, kTileRows].
  void add_columns(const float* mass, const float* weights, const float* window_weights, uint32_t rows,
                   uint32_t first_row) const {
    Vector sum[kVectors], window[kVectors], max[kVectors];
    HWY_UNROLL(16)
    for (int vector = 0; vector < kVectors; ++vector) sum[vector] = window[vector] = max[vector] = hn::Zero(kFloats);
    for (uint32_t query = 0; query < queries_.count; ++query, mass += kTileRows) {
      const Vector weight = hn::Set(kFloats, weights[query]), in_window = hn::Set(kFloats, window_weights[query]);
      HWY_UNROLL(16)
      for (int vector = 0; vector < kVectors; ++vector) {
        const Vector here = load(mass + vector * static_cast<int>(kLanes)), share = hn::Mul(here, weight);
        sum[vector] = hn::Add(sum[vector], share);
        window[vector] = hn::MulAdd(here, in_window, window[vector]);
        max[vector] = hn::Max(max[vector], share);
      }
    }
    const auto add = [](float total, float part) { return total + part; };
    const auto most = [](float total, float part) { return std::max(total, part); };
    if (stats_->sum != nullptr) fold(sum, rows, stats_->sum + first_row, add);
    if (stats_->window != nullptr) fold(window, rows, stats_->window + first_row, add);
    if (stats_->max != nullptr) fold(max, rows, stats_->max + first_row, most);
  }

  template <class Join>
  static void fold(const Vector (&found)[kVectors], uint32_t rows, float* to, const Join& join) {
    float columns[kPageRows];
    for (int vector = 0; vector < kVectors; ++vector) {
      hn::StoreU(found[vector], kFloats, columns + vector * static_cast<int>(kLanes));
    }
    for (uint32_t row = 0; row < rows; ++row) to[row] = join(to[row], columns[row]);
  }

  const HeadRows& head_;
  const uint32_t begin_, end_;
  const Queries& queries_;
  const ColumnStats* stats_;
  const ScratchLayout layout_;
  const uint32_t blocks_;
  const bool convert_key_, convert_value_;
  float* const scratch_;
  PageView converted_[kTilePages];
  Running running_[kMaxQueries];
};

void attend_target(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
                   const ColumnStats* stats, float* scratch) {
  if (head.key_type == RowType::kQ8 && head.head_dim % 2 != 0) {  // no whole pairs; no model has such heads
    return attend_reference(head, begin, end, queries, out, stats);
  }
  Attention(head, begin, end, queries, stats, scratch).run(out);
}

void add_scaled(const float* from, float scale, size_t count, float* to) {
  const Vector factor = hn::Set(kFloats, scale);
  size_t done = 0;
  for (; done + kLanes <= count; done += kLanes) {
    hn::StoreU(hn::MulAdd(factor, load(from + done), load(to + done)), kFloats, to + done);
  }
  for (; done < count; ++done) to[done] += scale * from[done];
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace kvmerger::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvmerger::kernels {
namespace {

HWY_EXPORT(attend_target);
HWY_EXPORT(add_scaled);

}  // namespace

size_t attend_scratch(uint32_t queries, uint32_t rows, uint32_t head_dim, bool with_stats) noexcept {
  return ScratchLayout(queries, rows, head_dim, with_stats).total;
}

void attend(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
            const ColumnStats* stats, float* scratch) noexcept {
  choose_target();
  HWY_DYNAMIC_DISPATCH(attend_target)(head, begin, end, queries, out, stats, scratch);
}

void combine(const Partial& partials, uint32_t parts, uint32_t count, uint32_t head_dim,
             float* const* output) noexcept {
  choose_target();
  for (uint32_t query = 0; query < count; ++query) {
    float max = -std::numeric_limits<float>::infinity();
    for (uint32_t part = 0; part < parts; ++part) max = std::max(max, partials.max[size_t{part} * count + query]);
    std::fill_n(output[query], head_dim, 0.0f);
    const auto weight = [&](size_t index) {
      return partials.sum[index] > 0 ? std::exp(partials.max[index] - max) : 0.0f;
    };
    float sum = 0;
    for (uint32_t part = 0; part < parts; ++part) {
      const size_t index = size_t{part} * count + query;
      sum += weight(index) * partials.sum[index];
    }
    for (uint32_t part = 0; part < parts && sum > 0; ++part) {
      const size_t index = size_t{part} * count + query;
      HWY_DYNAMIC_DISPATCH(add_scaled)(partials.acc + index * head_dim, weight(index) / sum, head_dim, output[query]);
    }
  }
}

}  // namespace kvmerger::kernels
#endif  // HWY_ONCE
