#include "model/weights.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>

#include "core/error.h"
#include "model/gguf_file.h"

namespace kvmerger::model {
namespace {

using Shape = std::array<int64_t, 2>;  // [in, out]; a vector has out 1

// ggml adds and scales by vectors of f32 only, and has no products for some of the types a file may name.
bool can_be_vector(ggml_type type) { return type == GGML_TYPE_F32; }
bool can_be_matrix(ggml_type type) { return ggml_get_type_traits_cpu(type)->vec_dot != nullptr; }

std::string shape_text(const Shape& shape) { return cat("[", shape[0], ", ", shape[1], "]"); }

// Hands out the file's tensors by name, checking shapes and types, and remembers which were asked for.
class Finder {
 public:
  explicit Finder(const GgufFile& file) : file_(file) {}

  ggml_tensor* vector_or_null(const std::string& name, int64_t size) { return find(name, {size, 1}, can_be_vector); }
  ggml_tensor* matrix_or_null(const std::string& name, Shape shape) { return find(name, shape, can_be_matrix); }
  ggml_tensor* vector(const std::string& name, int64_t size) { return need(name, vector_or_null(name, size)); }
  ggml_tensor* matrix(const std::string& name, Shape shape) { return need(name, matrix_or_null(name, shape)); }

  // A tensor nobody asked for means a feature we would silently leave out.
  void check_all_used() const {
    for (const std::string& name : file_.tensor_names()) {
      if (used_.count(name) == 0) {
        throw Error(cat("model '", file_.path(), "': tensor '", name, "' belongs to a feature that is not supported"));
      }
    }
  }

 private:
  ggml_tensor* find(const std::string& name, Shape shape, bool (*can_be)(ggml_type)) {
    ggml_tensor* tensor = file_.tensor(name);
    if (!tensor) return nullptr;
    const Shape found{tensor->ne[0], tensor->ne[1]};
    if (found != shape || tensor->ne[2] != 1 || tensor->ne[3] != 1) {
      throw Error(cat("model '", file_.path(), "': tensor '", name, "' has shape ", shape_text(found), ", expected ",
                      shape_text(shape)));
    }
    if (!can_be(tensor->type)) {
      throw Error(cat("model '", file_.path(), "': tensor '", name, "' has the type ", ggml_type_name(tensor->type),
                      ", which cannot be computed with"));
    }
    used_.insert(name);
    return tensor;
  }

  ggml_tensor* need(const std::string& name, ggml_tensor* tensor) const {
    if (!tensor) throw Error(cat("model '", file_.path(), "' lacks the tensor '", name, "'"));
    return tensor;
  }

  const GgufFile& file_;
  std::set<std::string> used_;
};

void find_projection(Finder& find, const std::string& name, Shape shape, ggml_tensor*& weight, ggml_tensor*& bias) {
  weight = find.matrix(name + ".weight", shape);
  bias = find.vector_or_null(name + ".bias", shape[1]);
}

LayerWeights find_layer(Finder& find, const DecoderConfig& config, uint32_t layer) {
  const int64_t embedding = config.embedding, hidden = config.feed_forward;
  const int64_t q = int64_t{config.heads} * config.head_dim, kv = int64_t{config.kv_heads} * config.head_dim;
  const std::string block = cat("blk.", layer, ".");
  LayerWeights w;
  w.attn_norm = find.vector(block + "attn_norm.weight", embedding);
  w.ffn_norm = find.vector(block + "ffn_norm.weight", embedding);
  find_projection(find, block + "attn_q", {embedding, q}, w.q, w.q_bias);
  find_projection(find, block + "attn_k", {embedding, kv}, w.k, w.k_bias);
  find_projection(find, block + "attn_v", {embedding, kv}, w.v, w.v_bias);
  find_projection(find, block + "attn_output", {q, embedding}, w.output, w.output_bias);
  find_projection(find, block + "ffn_gate", {embedding, hidden}, w.gate, w.gate_bias);
  find_projection(find, block + "ffn_up", {embedding, hidden}, w.up, w.up_bias);
  find_projection(find, block + "ffn_down", {hidden, embedding}, w.down, w.down_bias);
  if (config.arch->qk_norm) {
    w.q_norm = find.vector(block + "attn_q_norm.weight", config.head_dim);
    w.k_norm = find.vector(block + "attn_k_norm.weight", config.head_dim);
  }
  return w;
}

// True when ggml can multiply a matrix like this one from a buffer of this type.
bool can_multiply_from(ggml_backend_buffer_type_t type, ggml_backend_dev_t device, const ggml_tensor* matrix) {
  ggml_context* context = ggml_init({.mem_size = 8 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true});
  ggml_tensor* weight = ggml_new_tensor_2d(context, matrix->type, matrix->ne[0], matrix->ne[1]);
  ggml_tensor* product = ggml_mul_mat(context, weight, ggml_new_tensor_2d(context, GGML_TYPE_F32, matrix->ne[0], 512));
  weight->buffer = ggml_backend_buft_alloc_buffer(type, 0);
  const bool can = ggml_backend_dev_supports_op(device, product);
  ggml_backend_buffer_free(weight->buffer);
  ggml_free(context);
  return can;
}

// Buffer types of the CPU backend that hold matrices in another layout than the file's, best first.
std::vector<ggml_backend_buffer_type_t> repacking_types(ggml_backend_dev_t device) {
  using GetExtraBuffers = ggml_backend_buffer_type_t* (*)(ggml_backend_dev_t);
  const auto get = reinterpret_cast<GetExtraBuffers>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
  std::vector<ggml_backend_buffer_type_t> types;
  for (ggml_backend_buffer_type_t* type = get ? get(device) : nullptr; type && *type; ++type) types.push_back(*type);
  return types;
}

}  // namespace

struct Weights::Placement {
  std::vector<ggml_backend_buffer_t> buffers;
  std::vector<ggml_context*> contexts;

  ~Placement() {
    for (ggml_backend_buffer_t buffer : buffers) ggml_backend_buffer_free(buffer);
    for (ggml_context* context : contexts) ggml_free(context);
  }

  // A copy of the tensor in a buffer of its own.
  ggml_tensor* copy(const ggml_tensor* tensor, ggml_backend_buffer_type_t type) {
    ggml_tensor* fresh = make(tensor, tensor->type, type);
    ggml_backend_tensor_set(fresh, tensor->data, 0, ggml_nbytes(tensor));
    return fresh;
  }

  ggml_tensor* as_f32(const ggml_tensor* tensor) {
    ggml_tensor* fresh = make(tensor, GGML_TYPE_F32, ggml_backend_cpu_buffer_type());
    auto* to = static_cast<float*>(fresh->data);
    if (tensor->type == GGML_TYPE_F32) {
      std::copy_n(static_cast<const float*>(tensor->data), ggml_nelements(tensor), to);
    } else {
      ggml_get_type_traits(tensor->type)->to_float(tensor->data, to, ggml_nelements(tensor));
    }
    return fresh;
  }

 private:
  ggml_tensor* make(const ggml_tensor* tensor, ggml_type number, ggml_backend_buffer_type_t type) {
    contexts.push_back(ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    ggml_tensor* fresh = ggml_new_tensor_2d(contexts.back(), number, tensor->ne[0], tensor->ne[1]);
    ggml_set_name(fresh, tensor->name);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(contexts.back(), type);
    if (!buffer) throw Error(cat("no memory for tensor '", tensor->name, "': ", ggml_nbytes(fresh) >> 20, " MiB"));
    ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    buffers.push_back(buffer);
    return fresh;
  }
};

Weights::Weights(const GgufFile& file, const DecoderConfig& config, WeightLayout layout)
    : placement_(std::make_unique<Placement>()) {
  Finder find(file);
  const int64_t width = config.embedding, vocabulary = config.vocabulary;
  embedding = find.matrix("token_embd.weight", {width, vocabulary});
  output_norm = find.vector("output_norm.weight", width);
  output = find.matrix_or_null("output.weight", {width, vocabulary});
  output_bias = find.vector_or_null("output.bias", vocabulary);
  if (config.arch->rope_factors) rope_factors = find.vector_or_null("rope_freqs.weight", config.rope.dims / 2);
  for (uint32_t layer = 0; layer < config.layers; ++layer) layers.push_back(find_layer(find, config, layer));
  find.check_all_used();
  tied = output == nullptr;
  if (tied) output = embedding;
  for (const std::string& name : file.tensor_names()) bytes += ggml_nbytes(file.tensor(name));
  decode_bytes = bytes - (tied ? 0 : ggml_nbytes(embedding));

  const ggml_backend_dev_t device = ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
  const auto types =
      layout == WeightLayout::kRepacked ? repacking_types(device) : std::vector<ggml_backend_buffer_type_t>{};
  const auto place = [&](ggml_tensor*& matrix) {
    const auto fits = [&](ggml_backend_buffer_type_t type) { return can_multiply_from(type, device, matrix); };
    const auto type = std::find_if(types.begin(), types.end(), fits);
    const ggml_tensor* in_file = matrix;
    if (layout == WeightLayout::kF32) {
      matrix = placement_->as_f32(matrix);
    } else if (type != types.end()) {
      matrix = placement_->copy(matrix, *type);
    } else {
      return;
    }
    file.release(*in_file);  // or a copied model is in memory twice
    repacked_bytes += ggml_nbytes(matrix);
  };
  place(output);
  for (LayerWeights& layer : layers) {
    for (ggml_tensor** matrix : {&layer.q, &layer.k, &layer.v, &layer.output, &layer.gate, &layer.up, &layer.down}) {
      place(*matrix);
    }
  }
}

Weights::~Weights() = default;

}  // namespace kvmerger::model
