#include "model/graph.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "model/attention_port.h"
#include "model/linear.h"
#include "model/model.h"
#include "model/rope.h"

namespace kvmerger::model {
namespace {

constexpr uint32_t kNodesPerLayer = 48, kOtherNodes = 32;

// Builds the nodes. Shapes in ggml order, fastest first; m = tokens.
class Builder {
 public:
  Builder(ggml_context* context, const Model& model, AttentionPort& port, Linear& linear)
      : context_(context), config_(model.config()), weights_(model.weights()), port_(port), linear_(linear) {}

  ggml_tensor *tokens = nullptr, *positions = nullptr;  // [m] i32
  ggml_tensor* last = nullptr;                          // [1] i32: index of the last token; only for Outputs::kLast

  // Returns the logits [vocabulary, outputs], or, when none are wanted, the last attention's output: the run is then
  // for the rows it appends, and nothing behind them is computed.
  ggml_tensor* build(uint32_t m, Outputs outputs) {
    tokens = input(m);
    positions = input(m);
    if (outputs == Outputs::kLast) last = input(1);
    ggml_tensor* hidden = ggml_get_rows(context_, weights_.embedding, tokens);  // [embedding, m]
    const uint32_t end = config_.layers - 1;
    for (uint32_t layer = 0; layer < end; ++layer) hidden = block(layer, hidden);
    if (outputs == Outputs::kNone) return attend(end, norm(hidden, weights_.layers[end].attn_norm));
    hidden = block(end, hidden);
    return linear(weights_.output, weights_.output_bias, norm(hidden, weights_.output_norm));
  }

 private:
  ggml_tensor* input(uint32_t count) {
    ggml_tensor* tensor = ggml_new_tensor_1d(context_, GGML_TYPE_I32, count);
    ggml_set_input(tensor);
    return tensor;
  }

  ggml_tensor* norm(ggml_tensor* x, ggml_tensor* weight) {
    return ggml_mul(context_, ggml_rms_norm(context_, x, config_.rms_eps), weight);
  }

  ggml_tensor* linear(ggml_tensor* weight, ggml_tensor* bias, ggml_tensor* x) {
    ggml_tensor* y = linear_.multiply(context_, weight, x);
    return bias ? ggml_add(context_, y, bias) : y;
  }

  ggml_tensor* heads(ggml_tensor* x, uint32_t count) {  // [count * head_dim, m] -> [head_dim, count, m]
    return ggml_reshape_3d(context_, x, config_.head_dim, count, x->ne[1]);
  }

  ggml_tensor* rotate(ggml_tensor* x) {
    return rope(context_, config_, weights_, x, positions, config_.rope.attn_factor);
  }

  ggml_tensor* attend(uint32_t layer, ggml_tensor* x) {  // [embedding, m] -> [heads * head_dim, m]
    const LayerWeights& w = weights_.layers[layer];
    ggml_tensor* q = heads(linear(w.q, w.q_bias, x), config_.heads);
    ggml_tensor* k = heads(linear(w.k, w.k_bias, x), config_.kv_heads);
    ggml_tensor* v = heads(linear(w.v, w.v_bias, x), config_.kv_heads);
    if (w.q_norm) q = norm(q, w.q_norm);
    if (w.k_norm) k = norm(k, w.k_norm);
    return port_.attend(context_, layer, rotate(q), rotate(k), v);
  }

  ggml_tensor* feed_forward(const LayerWeights& w, ggml_tensor* x) {
    ggml_tensor* up = linear(w.up, w.up_bias, x);
    ggml_tensor* gate = linear(w.gate, w.gate_bias, x);
    return linear(w.down, w.down_bias, ggml_swiglu_split(context_, gate, up));
  }

  ggml_tensor* block(uint32_t layer, ggml_tensor* x) {
    const LayerWeights& w = weights_.layers[layer];
    ggml_tensor* attended = linear(w.output, w.output_bias, attend(layer, norm(x, w.attn_norm)));
    if (layer + 1 == config_.layers && last) {  // nothing behind attention needs the other positions
      attended = ggml_get_rows(context_, attended, last);
      x = ggml_get_rows(context_, x, last);
    }
    x = ggml_add(context_, x, attended);
    return ggml_add(context_, x, feed_forward(w, norm(x, w.ffn_norm)));
  }

  ggml_context* context_;
  const DecoderConfig& config_;
  const Weights& weights_;
  AttentionPort& port_;
  Linear& linear_;
};

bool ask_cancelled(void* data) noexcept {  // ggml, which calls it, is C
  const auto* cancelled = static_cast<const std::function<bool()>*>(data);
  return *cancelled && (*cancelled)();
}

}  // namespace

struct Executor::Impl {
  ggml_backend_t backend = nullptr;
  ~Impl() { ggml_backend_free(backend); }
};

Executor::Executor(uint32_t threads) : impl_(std::make_unique<Impl>()), threads_(threads) {
  impl_->backend = ggml_backend_cpu_init();
  if (!impl_->backend) throw Error("ggml's CPU backend could not be started");
  ggml_backend_cpu_set_n_threads(impl_->backend, static_cast<int>(threads));
}

Executor::~Executor() = default;

struct DecoderGraph::Impl {
  ggml_context* context = nullptr;
  ggml_gallocr_t allocator = nullptr;
  ggml_cgraph* graph = nullptr;
  ggml_tensor *tokens = nullptr, *positions = nullptr, *last = nullptr, *output = nullptr;
  std::vector<int32_t> position_values;
  Linear linear;

  ~Impl() {
    ggml_gallocr_free(allocator);
    ggml_free(context);
  }
};

DecoderGraph::DecoderGraph(const Model& model, AttentionPort& port, uint32_t tokens, Outputs outputs)
    : impl_(std::make_unique<Impl>()), tokens_(tokens), outputs_(outputs) {
  KVM_CHECK(tokens > 0);
  const size_t nodes = size_t{model.config().layers} * kNodesPerLayer + kOtherNodes;
  const size_t memory = nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(nodes, false);
  impl_->context = ggml_init({.mem_size = memory, .mem_buffer = nullptr, .no_alloc = true});
  impl_->graph = ggml_new_graph_custom(impl_->context, nodes, false);
  Builder builder(impl_->context, model, port, impl_->linear);
  impl_->output = builder.build(tokens, outputs);
  ggml_set_output(impl_->output);
  impl_->tokens = builder.tokens;
  impl_->positions = builder.positions;
  impl_->last = builder.last;
  ggml_build_forward_expand(impl_->graph, impl_->output);
  impl_->allocator = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
  if (!ggml_gallocr_alloc_graph(impl_->allocator, impl_->graph)) {
    throw Error(cat("no memory for a graph of ", tokens, " tokens; use a smaller batch (-b)"));
  }
  impl_->position_values.resize(tokens);
}

DecoderGraph::~DecoderGraph() = default;

bool DecoderGraph::run(Executor& executor, std::span<const int32_t> tokens, int32_t first_pos,
                       const std::function<bool()>& cancelled) {
  KVM_CHECK(tokens.size() == tokens_);
  std::iota(impl_->position_values.begin(), impl_->position_values.end(), first_pos);
  ggml_backend_tensor_set(impl_->tokens, tokens.data(), 0, tokens.size_bytes());
  ggml_backend_tensor_set(impl_->positions, impl_->position_values.data(), 0, tokens.size_bytes());
  if (impl_->last) {
    const int32_t index = static_cast<int32_t>(tokens_) - 1;
    ggml_backend_tensor_set(impl_->last, &index, 0, sizeof index);
  }
  impl_->linear.prepare(executor.threads());
  ggml_backend_t backend = executor.impl_->backend;
  ggml_backend_cpu_set_abort_callback(backend, cancelled ? &ask_cancelled : nullptr,
                                      const_cast<std::function<bool()>*>(&cancelled));
  const ggml_status status = ggml_backend_graph_compute(backend, impl_->graph);
  ggml_backend_cpu_set_abort_callback(backend, nullptr, nullptr);
  if (status == GGML_STATUS_ABORTED) return false;
  if (status != GGML_STATUS_SUCCESS) throw Error(cat("ggml: ", ggml_status_to_string(status)));
  return true;
}

std::span<const float> DecoderGraph::logits() const {
  KVM_CHECK(outputs_ != Outputs::kNone);
  return {static_cast<const float*>(impl_->output->data), static_cast<size_t>(ggml_nelements(impl_->output))};
}

}  // namespace kvmerger::model
