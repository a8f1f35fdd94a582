#include "model/model.h"

#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "core/error.h"
#include "model/gguf_file.h"

namespace kvmerger::model {
namespace {

std::string stem(const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  return name.substr(0, name.rfind(".gguf"));
}

void count_tensors(const GgufFile& file, ModelFacts& facts) {
  std::map<std::string, uint64_t> bytes;
  uint64_t total = 0;
  for (const std::string& name : file.tensor_names()) {
    const ggml_tensor* tensor = file.tensor(name);
    bytes[ggml_type_name(tensor->type)] += ggml_nbytes(tensor);
    total += ggml_nbytes(tensor);
    facts.parameters += static_cast<uint64_t>(ggml_nelements(tensor));
  }
  std::vector<std::pair<uint64_t, std::string>> types;
  for (const auto& [type, count] : bytes) types.emplace_back(count, type);
  std::sort(types.rbegin(), types.rend());
  for (const auto& [count, type] : types) {
    const uint64_t percent = (100 * count + total / 2) / total;
    facts.number_types += cat(facts.number_types.empty() ? "" : ", ", type, " ", percent, "%");
  }
}

}  // namespace

Model::Model(const std::string& path, WeightLayout layout) : file_(std::make_unique<GgufFile>(path)) {
  ggml_cpu_init();
  config_ = read_config(*file_);
  std::string fingerprint = file_->fingerprint();  // reads what weights release
  weights_ = std::make_unique<Weights>(*file_, config_, layout);
  facts_ = {.path = path,
            .name = file_->text_or("general.name", stem(path)),
            .license = file_->text_or("general.license", ""),
            .fingerprint = std::move(fingerprint),
            .number_types = "",
            .file_bytes = file_->bytes(),
            .parameters = 0};
  count_tensors(*file_, facts_);
}

Model::~Model() = default;

}  // namespace kvmerger::model
