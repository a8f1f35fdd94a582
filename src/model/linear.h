// Products of weights and activations in the graph: ggml's, or ours where those are faster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

struct ggml_context;
struct ggml_tensor;

namespace kvmerger::model {

// Of one graph, whose nodes point to it.
class Linear {
 public:
  // weight [inputs, outputs] times x [inputs, m]: [outputs, m].
  ggml_tensor* multiply(ggml_context* context, ggml_tensor* weight, ggml_tensor* x);
  // Makes room for a run on that many threads.
  void prepare(uint32_t threads) { scratch_.resize(threads * scratch_floats_); }

 private:
  static void multiply_op(ggml_tensor* dst, int thread, int threads, void* linear);

  size_t scratch_floats_ = 0;  // of one thread
  std::vector<float> scratch_;
};

}  // namespace kvmerger::model
