// The attention port in plain double code: keeps every key and value it gets, attends to all of them, and remembers
// what queries it was asked and how much of their attention each row got.
#pragma once

#include <ggml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "model/attention_port.h"
#include "model/graph.h"
#include "model/model.h"

namespace kvmerger::test {

class LiteralPort final : public model::AttentionPort {
 public:
  struct Layer {
    LiteralPort* port;
    std::vector<float> query;                // [tokens of all runs, heads * head_dim]
    std::vector<std::vector<double>> key;    // [rows][kv_heads * head_dim]
    std::vector<std::vector<double>> value;  // the same
    std::vector<std::vector<double>> most;   // [kv_heads][rows] largest probability in the last run
  };

  explicit LiteralPort(const model::Model& model) : model_(model) {
    for (uint32_t layer = 0; layer < model.config().layers; ++layer) layers_.push_back({this, {}, {}, {}, {}});
  }

  ggml_tensor* attend(ggml_context* context, uint32_t layer, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v) override {
    std::array<ggml_tensor*, 3> inputs{q, k, v};
    return ggml_custom_4d(context, GGML_TYPE_F32, q->ne[0] * q->ne[1], q->ne[2], 1, 1, inputs.data(), 3, &op, 1,
                          &layers_[layer]);
  }

  // Reads tokens behind the rows that are there.
  void read(std::span<const int32_t> tokens) {
    model::Executor executor(1);
    model::DecoderGraph graph(model_, *this, static_cast<uint32_t>(tokens.size()), model::Outputs::kLast);
    graph.run(executor, tokens, static_cast<int32_t>(layers_[0].key.size()), nullptr);
    logits_.assign(graph.logits().begin(), graph.logits().end());
  }
  void truncate(size_t rows) {
    for (Layer& layer : layers_) {
      layer.key.resize(rows);
      layer.value.resize(rows);
    }
  }
  const Layer& layer(uint32_t index) const { return layers_[index]; }
  const std::vector<float>& logits() const { return logits_; }  // behind the last token read

 private:
  static void op(ggml_tensor* dst, int thread, int /*threads*/, void* data) {
    if (thread == 0) static_cast<Layer*>(data)->port->run(*static_cast<Layer*>(data), *dst);
  }

  void run(Layer& layer, ggml_tensor& dst) const {
    const model::DecoderConfig& config = model_.config();
    const size_t tokens = static_cast<size_t>(dst.ne[1]), before = layer.key.size();
    const size_t width = size_t{config.kv_heads} * config.head_dim;
    const auto *q = static_cast<const float*>(dst.src[0]->data), *k = static_cast<const float*>(dst.src[1]->data),
               *v = static_cast<const float*>(dst.src[2]->data);
    layer.query.insert(layer.query.end(), q, q + tokens * width * config.group());
    for (size_t token = 0; token < tokens; ++token) {
      layer.key.emplace_back(k + token * width, k + (token + 1) * width);
      layer.value.emplace_back(v + token * width, v + (token + 1) * width);
    }
    layer.most.assign(config.kv_heads, std::vector<double>(before + tokens));
    auto* out = static_cast<float*>(dst.data);
    for (size_t token = 0; token < tokens; ++token) {
      for (uint32_t head = 0; head < config.heads; ++head) {
        const size_t at = (token * config.heads + head) * config.head_dim;
        answer(layer, head, before + token + 1, q + at, out + at);
      }
    }
  }

  // softmax(q.k / sqrt(d)) V over the first `visible` rows.
  void answer(Layer& layer, uint32_t head, size_t visible, const float* query, float* out) const {
    const uint32_t dim = model_.config().head_dim, own = head / model_.config().group();
    std::vector<double> share(visible);
    for (size_t row = 0; row < visible; ++row) {
      double dot = 0.0;
      for (uint32_t at = 0; at < dim; ++at) dot += double{query[at]} * layer.key[row][own * dim + at];
      share[row] = dot / std::sqrt(double{1.0 * dim});
    }
    const double largest = *std::ranges::max_element(share);
    double sum = 0.0;
    for (double& one : share) sum += one = std::exp(one - largest);
    std::vector<double> output(dim);
    for (size_t row = 0; row < visible; ++row) {
      layer.most[own][row] = std::max(layer.most[own][row], share[row] / sum);
      for (uint32_t at = 0; at < dim; ++at) output[at] += share[row] / sum * layer.value[row][own * dim + at];
    }
    for (uint32_t at = 0; at < dim; ++at) out[at] = static_cast<float>(output[at]);
  }

  const model::Model& model_;
  std::deque<Layer> layers_;  // graphs point to them
  std::vector<float> logits_;
};

}  // namespace kvmerger::test
