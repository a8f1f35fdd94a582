#include "dequantised.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

namespace kvmerger::test {
namespace {

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;
using Ggml = std::unique_ptr<ggml_context, decltype(&ggml_free)>;

ggml_tensor* as_f32(ggml_context* context, const ggml_tensor* tensor) {
  ggml_tensor* copy = ggml_new_tensor(context, GGML_TYPE_F32, ggml_n_dims(tensor), tensor->ne);
  ggml_set_name(copy, tensor->name);
  const ggml_to_float_t convert = ggml_get_type_traits(tensor->type)->to_float;
  if (tensor->type == GGML_TYPE_F32) {
    std::copy_n(static_cast<const float*>(tensor->data), ggml_nelements(tensor), static_cast<float*>(copy->data));
  } else {
    convert(tensor->data, static_cast<float*>(copy->data), ggml_nelements(tensor));
  }
  return copy;
}

}  // namespace

DequantisedModel::DequantisedModel(const std::string& path) {
  ggml_context* raw = nullptr;
  const Gguf from(gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &raw}), &gguf_free);
  if (!from) throw std::runtime_error("cannot read " + path);
  const Ggml tensors(raw, &ggml_free);
  size_t bytes = 0;
  for (ggml_tensor* t = ggml_get_first_tensor(raw); t; t = ggml_get_next_tensor(raw, t)) {
    bytes += static_cast<size_t>(ggml_nelements(t)) * 4 + 2 * ggml_tensor_overhead();
  }
  const Ggml copies(ggml_init({.mem_size = bytes, .mem_buffer = nullptr, .no_alloc = false}), &ggml_free);
  const Gguf to(gguf_init_empty(), &gguf_free);
  gguf_set_kv(to.get(), from.get());
  for (int64_t id = 0; id < gguf_get_n_tensors(from.get()); ++id) {
    const char* name = gguf_get_tensor_name(from.get(), id);
    gguf_add_tensor(to.get(), as_f32(copies.get(), ggml_get_tensor(raw, name)));
  }
  if (!gguf_write_to_file(to.get(), file_.path().c_str(), false))
    throw std::runtime_error("cannot write a memory file");
}

}  // namespace kvmerger::test
