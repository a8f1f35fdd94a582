// Dense products in f32 for looking into a head between graph runs: scores, merging, least squares. Decoding and
// prefill work on pages instead (attention.h). One thread; results do not depend on the machine's load, only on its
// target.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvmerger::kernels {

// Element (i, j) is data[i * row + j * column].
struct Matrix {
  const float* data;
  size_t row, column;

  Matrix transposed() const { return {data, column, row}; }
};

// c [m, n] = a [m, k] b [k, n]; c is contiguous and none of the inputs. Allocates some hundred KB.
void multiply(Matrix a, Matrix b, uint32_t m, uint32_t k, uint32_t n, float* c);
// c [m, m] = a a^T for contiguous a [m, n], on and below the diagonal; what is above it means nothing.
void gram(const float* a, uint32_t m, uint32_t n, float* c);

// out [m] = a [m, n] x [n] and out [n] = x [m] a [m, n] for contiguous a.
void multiply_vector(const float* a, uint32_t m, uint32_t n, const float* x, float* out);
void vector_multiply(const float* x, const float* a, uint32_t m, uint32_t n, float* out);
// out [n] = a^T (a x), in one pass over a [m, n].
void normal_vector(const float* a, uint32_t m, uint32_t n, const float* x, float* out);

// The unnormalised softmax of every row of logits [m, n], in place: exp(scale * logit + bias[j] - largest[i]), held to
// at most 1. bias [n] may be null. Writes the row sums to sum [m].
// softmax_rows finds largest [m] itself; exponentials takes it as given (e.g. that of more rows).
void softmax_rows(float* logits, uint32_t m, uint32_t n, float scale, const float* bias, float* largest, float* sum);
void exponentials(float* logits, uint32_t m, uint32_t n, float scale, const float* bias, const float* largest,
                  float* sum);

// weights [m, n] = exp(q k^T / sqrt(dim) + bias - largest), largest and sum [m] of each row: softmax attention of
// q [m, dim] to k [n, dim], both contiguous, before it is divided by the sums.
void dense_attention(const float* q, uint32_t m, const float* k, uint32_t n, uint32_t dim, const float* bias,
                     float* weights, float* largest, float* sum);

}  // namespace kvmerger::kernels
