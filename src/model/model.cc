#include "model/model.h"

#include <ggml-cpu.h>

#include "model/gguf_file.h"

namespace kvmerger::model {
namespace {

std::string stem(const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  return name.substr(0, name.rfind(".gguf"));
}

}  // namespace

Model::Model(const std::string& path, bool repack) : file_(std::make_unique<GgufFile>(path)) {
  ggml_cpu_init();
  config_ = read_config(*file_);
  weights_ = std::make_unique<Weights>(*file_, config_, repack);
  facts_ = {.path = path,
            .name = file_->text_or("general.name", stem(path)),
            .license = file_->text_or("general.license", ""),
            .fingerprint = file_->fingerprint(),
            .file_bytes = file_->bytes()};
}

Model::~Model() = default;

}  // namespace kvmerger::model
