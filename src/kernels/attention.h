// Attention of a few queries over the paged rows of one KV head: softmax(q.k * scale + bias) V.
// One blocked algorithm with online softmax serves decoding (the query heads of a group, many rows, split over row
// ranges) and prefill (a block of queries, causal by count of visible rows). No kernel throws or allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/page.h"

namespace kvmerger::kernels {

inline constexpr uint32_t kMaxQueries = 64;  // queries of one call
inline constexpr float kLogitLimit = 8e37f;  // logits are held within +- this, so that differences stay finite

struct Queries {
  const float* const* data;  // [count] pointers to [head_dim], not scaled
  uint32_t count;            // 1 .. kMaxQueries
  const uint32_t* visible;   // [count] query q sees rows below visible[q], in any order; null: all rows
  float scale;               // usually 1 / sqrt(head_dim)
};

// Unnormalised softmax state of each query after a range of rows: output = acc / sum. A query that saw no row has
// max = -infinity and sum = 0.
struct Partial {
  float* max;  // [count] largest logit
  float* sum;  // [count] sum of exp(logit - max)
  float* acc;  // [count, head_dim] sum of exp(logit - max) * value
};

// Attention mass received by each row, added to what is there. Null members are skipped.
struct ColumnStats {
  float* sum;                 // [rows] += over all queries
  float* window;              // [rows] += over the queries with in_window[q] != 0
  float* max;                 // [rows] max= over all queries
  const uint8_t* in_window;   // [count]
  double* seconds = nullptr;  // += time spent on all this
};

// Floats of scratch that attend needs; with_stats keeps all probabilities of the block until the sums are known.
size_t attend_scratch(uint32_t queries, uint32_t rows, uint32_t head_dim, bool with_stats) noexcept;

// Attends to rows [begin, end) of head; begin is a multiple of kPageRows, end <= head.rows. stats may be null; with
// stats the range must be all rows the queries see (begin = 0), since the sums must be final.
void attend(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
            const ColumnStats* stats, float* scratch) noexcept;

// Joins the states of `parts` consecutive ranges into outputs: output[q] points to [head_dim]. part p of query q lies
// at index p * count + q of max, sum and acc. A query that saw no row gets zeros.
void combine(const Partial& partials, uint32_t parts, uint32_t count, uint32_t head_dim, float* const* output) noexcept;

// The same in plain double-precision code: the truth the vector code is tested against.
void attend_reference(const HeadRows& head, uint32_t begin, uint32_t end, const Queries& queries, const Partial& out,
                      const ColumnStats* stats) noexcept;

// The instruction set in use ("AVX2", "AVX3", "NEON", "SCALAR", ...). The environment variable KVMERGER_TARGET forces
// one of target_names() (case does not matter); it is read at the first call of any kernel.
const char* target_name() noexcept;
std::vector<std::string> target_names();  // those that this build has and this machine can run
// Throws Error, listing the valid names, when KVMERGER_TARGET names none of them. For start-up.
void check_target();

}  // namespace kvmerger::kernels
