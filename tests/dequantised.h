// A copy of a GGUF model with all weights as f32, in memory. Products with f32 weights do not quantise activations, so two
// engines can be compared to rounding: with quantised weights the smallest difference turns some activations over to the
// next step, and logits differ by the quantisation's own noise whatever the engines do.
#pragma once

#include <string>

namespace kvmerger::test {

class DequantisedModel {
 public:
  explicit DequantisedModel(const std::string& path);  // throws std::runtime_error
  ~DequantisedModel();
  DequantisedModel(const DequantisedModel&) = delete;
  DequantisedModel& operator=(const DequantisedModel&) = delete;
  const std::string& path() const { return path_; }  // usable while this lives

 private:
  int file_ = -1;
  std::string path_;
};

}  // namespace kvmerger::test
