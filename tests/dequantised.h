// A copy of a GGUF model with all weights as f32, in memory. Products with f32 weights do not quantise activations, so
// two engines can be compared to rounding: with quantised weights the smallest difference turns some activations over
// to the next step, and logits differ by the quantisation's own noise whatever the engines do.
#pragma once

#include <string>

#include "gguf_writer.h"

namespace kvmerger::test {

class DequantisedModel {
 public:
  explicit DequantisedModel(const std::string& path);  // throws std::runtime_error
  const std::string& path() const { return file_.path(); }

 private:
  MemoryFile file_;
};

}  // namespace kvmerger::test
