// A plan: what each surviving row is made of. The only language from a policy to the store.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/views.h"

namespace kvmerger::kv {

struct Source {
  uint32_t row;  // old row
  float weight;
};

// Sparse weighted sums of old rows, in compressed-row form: sum r has source[begin[r] .. begin[r + 1]).
struct Sums {
  std::vector<uint32_t> begin{0};
  std::vector<Source> source;

  uint32_t count() const { return static_cast<uint32_t>(begin.size()) - 1; }
  std::span<const Source> operator[](uint32_t row) const {
    return {source.data() + begin[row], source.data() + begin[row + 1]};
  }
  void add(std::span<const Source> sources) {
    source.insert(source.end(), sources.begin(), sources.end());
    begin.push_back(static_cast<uint32_t>(source.size()));
  }
  void add(Source one) { add(std::span<const Source>(&one, 1)); }
};

struct HeadPlan {
  Sums key, value;                 // new row r = sum of weight * old row
  std::vector<float> bias;         // [rows] the row's logit bias from now on
  std::vector<uint32_t> pivot;     // [rows] old row that lends its position; strictly increasing
  std::vector<int32_t> dense;      // [rows] index into dense_value or -1; empty if unused
  std::vector<float> dense_value;  // [m, head_dim] replaces the value sum (least-squares refit)

  uint32_t rows() const { return static_cast<uint32_t>(pivot.size()); }
  // Appends old row `row` of `head` unchanged, its bias included.
  void keep(const HeadView& head, uint32_t row);
};

using LayerPlan = std::vector<HeadPlan>;  // one per KV head, lengths may differ

HeadPlan keep_all(const HeadView& head);
// The rows of `kept` (strictly increasing) unchanged: eviction of all others.
HeadPlan keep_rows(const HeadView& head, std::span<const uint32_t> kept);

// True when the plan changes nothing in a head of n rows.
bool is_identity(const HeadPlan& plan, const HeadView& head);

// Throws Error saying which head, row and rule: sizes that agree, sources in range and not empty, finite weights and
// biases, pivots strictly increasing, the newest row kept, at least one row unless the head is empty.
void validate(const LayerPlan& plan, const LayerView& view);

}  // namespace kvmerger::kv
