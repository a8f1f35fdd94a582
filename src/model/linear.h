// Products of weights and activations in the graph: ggml's, or ours where those are faster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "core/work_shares.h"
#include "kernels/linear.h"
#include "kernels/linear_token.h"

struct ggml_context;
struct ggml_tensor;

namespace kvmerger::model {

// Weights [inputs, outputs] in ggml's blocks, as kernels read them.
kernels::WeightRows rows_of(const ggml_tensor& weight);

// Of one graph, whose nodes point to it.
class Linear {
 public:
  Linear() = default;
  Linear(const Linear&) = delete;  // the graph keeps pointers
  Linear& operator=(const Linear&) = delete;

  // weight [inputs, outputs] times x [inputs, m]: [outputs, m].
  ggml_tensor* multiply(ggml_context* context, ggml_tensor* weight, ggml_tensor* x);
  // Before each run of the graph, which may have that many threads.
  void prepare(uint32_t threads);

 private:
  struct Product {
    Linear* owner;
    const ggml_tensor* weight;
    std::optional<kernels::TokenFormat> format;  // of the weights, when there is one token
    uint32_t unit_outputs = 0;                   // that a thread takes at once, when there is one token
    WorkShares shares;
    void prepare(uint32_t threads);
    [[nodiscard]] float* scratch(int thread) const;
  };

  ggml_tensor* add(ggml_context* context, ggml_tensor* weight, ggml_tensor* x,
                   std::optional<kernels::TokenFormat> format, size_t scratch_floats);
  static void multiply_tokens(ggml_tensor* dst, int thread, int threads, void* product) noexcept;
  static void multiply_token(ggml_tensor* dst, int thread, int threads, void* product) noexcept;

  size_t scratch_floats_ = 0;  // of one thread
  std::vector<float> scratch_;
  std::deque<Product> products_;
};

}  // namespace kvmerger::model
