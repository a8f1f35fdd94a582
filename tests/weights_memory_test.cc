// What a model takes of the file it is mapped from, seen from outside.
#include <doctest/doctest.h>
#include <ggml.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "gguf_writer.h"
#include "model/gguf_file.h"
#include "model/model.h"
#include "toy_model.h"

namespace kvmerger::model {
namespace {

// Bytes in memory of this process's mappings of files that tests have written.
size_t mapped_in_memory() {
  std::ifstream maps("/proc/self/smaps");
  size_t total = 0;
  bool ours = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:kvmerger_test") != std::string::npos) ours = true;
    if (!line.starts_with("Rss:") || !ours) continue;
    total += std::stoul(line.substr(4)) << 10;
    ours = false;
  }
  return total;
}

}  // namespace

TEST_CASE("a tensor that is released leaves memory, and is there again when it is read") {
  constexpr int64_t kWidth = 1024, kHeight = 8192;  // 32 MiB
  std::vector<float> numbers(kWidth * kHeight);
  std::iota(numbers.begin(), numbers.end(), 0.0F);
  const test::MemoryFile path;
  {
    test::GgufWriter writer("llama");
    writer.add("before", kWidth, 1, GGML_TYPE_F32, std::vector<float>(kWidth, 3.0F));
    writer.add("large", kWidth, kHeight, GGML_TYPE_F32, numbers);
    writer.write(path);
  }
  const GgufFile file(path.path());
  const ggml_tensor& large = *file.tensor("large");
  const auto is_there = [&] {
    return std::equal(numbers.begin(), numbers.end(), static_cast<const float*>(large.data)) &&
           static_cast<const float*>(file.tensor("before")->data)[kWidth - 1] == 3.0F;
  };
  REQUIRE(is_there());
  CHECK(mapped_in_memory() >= ggml_nbytes(&large));
  file.release(large);
  CHECK(mapped_in_memory() < size_t{1} << 20);
  CHECK(is_there());
}

TEST_CASE("a model whose weights are copied is not in memory twice") {
  test::ToyParams params;
  params.n_embd = 512;
  params.n_ff = 4096;
  params.type = GGML_TYPE_Q8_0;
  const test::ToyModel toy(params);
  const Model copied(toy.path(), WeightLayout::kF32);
  REQUIRE(copied.facts().file_bytes > size_t{12} << 20);
  CHECK(mapped_in_memory() < size_t{1} << 20);
}

}  // namespace kvmerger::model
