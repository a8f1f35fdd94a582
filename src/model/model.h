// A loaded model: configuration, weights, and what the file says of itself. Immutable; sessions share it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/config.h"
#include "model/weights.h"

namespace kvmerger::model {

struct ModelFacts {  // for people and reports
  std::string path, name, license, fingerprint;
  std::string number_types;  // of the tensors, the one with most bytes first: "q4_1 96%, f32 4%"
  uint64_t file_bytes = 0, parameters = 0;
};

class Model {
 public:
  // Maps and checks a GGUF file. Throws Error naming file and fault.
  explicit Model(const std::string& path, WeightLayout layout = WeightLayout::kRepacked);
  ~Model();

  const DecoderConfig& config() const { return config_; }
  const Weights& weights() const { return *weights_; }
  const ModelFacts& facts() const { return facts_; }

 private:
  std::unique_ptr<GgufFile> file_;
  DecoderConfig config_;
  std::unique_ptr<Weights> weights_;
  ModelFacts facts_;
};

}  // namespace kvmerger::model
