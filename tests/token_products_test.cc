// Products of one token, where they are ours, against ggml's of the same weights: bit for bit on x86-64 with AVX2.
#include <doctest/doctest.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/rng.h"
#include "kernels/linear_token.h"
#include "model/linear.h"
#include "model/model.h"
#include "model/weights.h"
#include "toy_model.h"

namespace kvmerger::test {
namespace {

// expect_ours: or else the product is ggml's.
void check_same_bits(ggml_tensor* weight, bool expect_ours) {
  CAPTURE(weight->name);
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> context(
      ggml_init({.mem_size = size_t{4} << 20, .mem_buffer = nullptr, .no_alloc = false}), &ggml_free);
  ggml_tensor* x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, weight->ne[0], 1);
  Rng rng(7);
  for (int64_t at = 0; at < weight->ne[0]; ++at) {
    static_cast<float*>(x->data)[at] = static_cast<float>(rng.uniform() - 0.4);
  }
  model::Linear linear;
  ggml_tensor* ours = linear.multiply(context.get(), weight, x);
  ggml_tensor* theirs = ggml_mul_mat(context.get(), weight, x);
  REQUIRE((ours->op == GGML_OP_CUSTOM) == expect_ours);
  ggml_cgraph* graph = ggml_new_graph(context.get());
  ggml_build_forward_expand(graph, ours);
  ggml_build_forward_expand(graph, theirs);
  for (const int threads : {1, 2}) {
    std::memset(ours->data, 0, ggml_nbytes(ours));
    linear.prepare(static_cast<uint32_t>(threads));
    REQUIRE(ggml_graph_compute_with_ctx(context.get(), graph, threads) == GGML_STATUS_SUCCESS);
    CHECK(std::memcmp(ours->data, theirs->data, ggml_nbytes(ours)) == 0);
  }
}

}  // namespace

TEST_CASE("one token times weights: ggml's bits") {
  const bool avx2 = ggml_cpu_has_avx2() != 0 && std::getenv("KVMERGER_TARGET") == nullptr;
  if (avx2) REQUIRE(kernels::linear_token_is_fast());
  for (const ggml_type type : {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0}) {
    CAPTURE(ggml_type_name(type));
    ToyParams params;
    params.n_embd = 256;
    params.n_ff = 1376;    // not a multiple of a thread's unit of work
    params.n_vocab = 131;  // nor of the rows that pass together
    params.n_head = 4;
    params.type = type;
    const ToyModel file(params);
    const bool packed = type == GGML_TYPE_Q4_0;  // ggml may have a better layout for it, which is not ours to read
    const model::Model model(file.path(), packed ? model::WeightLayout::kRepacked : model::WeightLayout::kAsFile);
    const model::LayerWeights& layer = model.weights().layers.at(0);
    const bool fast = kernels::linear_token_is_fast();
    const bool amx = ggml_cpu_has_amx_int8() != 0;
    const bool ours = fast && (!packed || !amx);
    for (ggml_tensor* weight : {layer.q, layer.up, layer.down}) check_same_bits(weight, ours);
    check_same_bits(model.weights().output, ours && !packed);
  }
}

}  // namespace kvmerger::test
