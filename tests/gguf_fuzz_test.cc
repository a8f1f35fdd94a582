// The loader against damaged files: whatever stands in a header, a model loads and runs, or Error says what is wrong.
// A crash, an abort inside ggml and a hang end this program.
#include <doctest/doctest.h>
#include <gguf.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "engine/session.h"
#include "gguf_writer.h"
#include "model/model.h"
#include "toy_model.h"

namespace kvmerger::test {
namespace {

using Bytes = std::string;

constexpr uint32_t kRounds = 1000;  // per architecture

struct Sample {
  Bytes bytes;
  size_t header;                // bytes before the tensors' data
  std::vector<size_t> values;   // where a key's type stands; its value is behind
  std::vector<size_t> tensors;  // where a tensor's number of dimensions stands
};

// The byte behind a name as GGUF writes it: its length, then its letters.
size_t behind(const Bytes& bytes, const std::string& name) {
  const uint64_t length = name.size();
  const size_t at = bytes.find(std::string(reinterpret_cast<const char*>(&length), sizeof length) + name);
  REQUIRE(at != Bytes::npos);
  return at + sizeof length + name.size();
}

Sample sample(const ToyParams& params) {
  const ToyModel file(params);
  std::ifstream stream(file.path(), std::ios::binary);
  Sample sample{{std::istreambuf_iterator<char>(stream), {}}, 0, {}, {}};
  gguf_context* gguf = gguf_init_from_file(file.path().c_str(), {.no_alloc = true, .ctx = nullptr});
  sample.header = gguf_get_data_offset(gguf);
  for (int64_t id = 0; id < gguf_get_n_kv(gguf); ++id) {
    sample.values.push_back(behind(sample.bytes, gguf_get_key(gguf, id)));
  }
  for (int64_t id = 0; id < gguf_get_n_tensors(gguf); ++id) {
    sample.tensors.push_back(behind(sample.bytes, gguf_get_tensor_name(gguf, id)));
  }
  gguf_free(gguf);
  return sample;
}

ToyParams small(const std::string& arch) {
  ToyParams params;
  params.arch = arch;
  params.n_layer = 1;
  params.n_embd = params.n_ff = 32;
  params.n_head = 4;
  params.n_vocab = 8;
  params.qkv_bias = arch == "qwen2";
  params.rope.scaling = arch == "llama" ? ToyRope::kLlama3 : ToyRope::kYarn;
  params.type = arch == "qwen3" ? GGML_TYPE_Q8_0 : GGML_TYPE_F32;
  return params;
}

// Loads and runs; true when nothing was refused. Errors other than ours go on to the test.
bool usable(const Bytes& bytes) {
  const MemoryFile file;
  std::ofstream(file.path(), std::ios::binary) << bytes;
  try {
    engine::SessionOptions options;
    options.threads = 1;
    const auto model = std::make_shared<const model::Model>(file.path());
    engine::Session session(model, options);
    session.extend(std::vector<int32_t>{1, 0});
    return true;
  } catch (const Error& error) {
    CHECK(std::string(error.what()).size() > 10);
    return false;
  }
}

// Numbers at which arithmetic and checks go wrong.
constexpr std::array<uint64_t, 16> kOddNumbers = {
    0,          1,          2,          3,          31,         255,        0x7fffffff,         0x80000000,
    0xffffffff, 0x7f800000, 0x7fc00000, 0x00000001, 1ULL << 32, 1ULL << 40, 0x7fffffffffffffff, 0xffffffffffffffff};

template <typename T>
Bytes with(Bytes bytes, size_t at, T value) {
  std::memcpy(&bytes[at], &value, sizeof value);
  return bytes;
}

size_t below(Rng& rng, size_t bound) { return rng.below(static_cast<uint32_t>(bound)); }

// One random fault in the first `header` bytes.
Bytes damaged(const Sample& sample, Rng& rng) {
  Bytes bytes = sample.bytes;
  const size_t at = below(rng, sample.header), some = 1 + below(rng, 16);
  switch (rng.below(6)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.below(8)));
      break;
    case 1:
      bytes[at] = static_cast<char>(rng.below(256));
      break;
    case 2: {
      const uint64_t odd = kOddNumbers[rng.below(kOddNumbers.size())];
      std::memcpy(&bytes[at], &odd, rng.below(2) == 0 ? 4 : 8);
      break;
    }
    case 3:
      bytes.resize(at);
      break;
    case 4:
      bytes.insert(at, bytes.substr(below(rng, sample.header), some));
      break;
    default:
      bytes.erase(at, some);
  }
  return bytes;
}

}  // namespace

TEST_CASE("faults that ggml's reader lets pass are named") {
  const Sample whole = sample(small("llama"));
  const auto refusal = [](const Bytes& bytes) -> std::string {
    const MemoryFile file;
    std::ofstream(file.path(), std::ios::binary) << bytes;
    try {
      const model::Model model(file.path());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto key = [&](const std::string& name, auto value) {
    return refusal(with(whole.bytes, behind(whole.bytes, "llama." + name) + 4, value));
  };
  const auto whole_numbers = [&](const std::string& tensor) {  // as long as f32, so that nothing else is wrong
    const size_t at = behind(whole.bytes, tensor);
    return refusal(with(whole.bytes, at + 4 + 8 * static_cast<size_t>(whole.bytes[at]), GGML_TYPE_I32));
  };
  const auto says = [](const std::string& message, const std::string& part) {
    CAPTURE(message);
    CHECK(message.find(part) != std::string::npos);
  };
  CHECK(refusal(whole.bytes).empty());
  for (const float epsilon : {-1e-5F, NAN, INFINITY}) says(key("attention.layer_norm_rms_epsilon", epsilon), "epsilon");
  for (const float base : {0.0F, -1.0F, NAN, INFINITY}) says(key("rope.freq_base", base), "base");
  for (const uint32_t context : {0U, 1U << 31, UINT32_MAX}) says(key("context_length", context), "absurd");
  for (const std::string tensor : {"token_embd", "blk.0.attn_q", "output_norm", "rope_freqs"}) {
    says(whole_numbers(tensor + ".weight"), "tensor '" + tensor + ".weight' has the type i32");
  }
  says(key("rope.dimension_count", 9U), "rope over 9 of 8");
  says(refusal(with(whole.bytes, behind(whole.bytes, "output_norm.weight") + 4, uint64_t{24})),
       "'output.weight' has offset");

  // Names that differ only behind a zero byte are one name to ggml, and the second's place would go to the first.
  Bytes twins = whole.bytes;
  for (const std::string name : {"blk.0.attn_k.weight", "blk.0.attn_q.weight"}) {
    std::memcpy(&twins[behind(twins, name) - 9], "\0", 1);
  }
  says(refusal(twins), "two tensors are called 'blk.0.attn'");
}

TEST_CASE("tensors that are not aligned as the format asks are refused") {
  GgufWriter writer("llama");
  writer.set("general.alignment", 4U);
  writer.add("token_embd.weight", 1, 1, GGML_TYPE_F32, {1.0F});
  const MemoryFile file;
  writer.write(file);
  CHECK_THROWS_WITH_AS(model::Model(file.path()), doctest::Contains("aligned to 4 bytes"), Error);
}

TEST_CASE("odd numbers in every key and dimension, and every type, load or are refused with an error") {
  for (const model::Arch& arch : model::archs()) {
    const Sample whole = sample(small(arch.name));
    for (const size_t key : whole.values) {
      for (uint32_t type = 0; type <= GGUF_TYPE_COUNT; ++type) usable(with(whole.bytes, key, type));
      for (const uint64_t odd : kOddNumbers) usable(with(whole.bytes, key + 4, static_cast<uint32_t>(odd)));
    }
    for (const size_t tensor : whole.tensors) {
      const size_t type = tensor + 4 + 8 * static_cast<size_t>(whole.bytes[tensor]);
      for (uint32_t dims = 0; dims <= GGML_MAX_DIMS + 1; ++dims) usable(with(whole.bytes, tensor, dims));
      for (const uint64_t odd : kOddNumbers) {
        for (size_t at = tensor + 4; at < type; at += 8) usable(with(whole.bytes, at, odd));
        usable(with(whole.bytes, type + 4, odd));
      }
      for (int32_t other = -1; other <= GGML_TYPE_COUNT; ++other) usable(with(whole.bytes, type, other));
    }
  }
}

TEST_CASE("thousands of damaged headers load or are refused with an error") {
  Rng rng(20);
  for (const model::Arch& arch : model::archs()) {
    const Sample whole = sample(small(arch.name));
    REQUIRE(usable(whole.bytes));
    uint32_t refused = 0;
    for (uint32_t round = 0; round < kRounds; ++round) refused += usable(damaged(whole, rng)) ? 0U : 1U;
    CHECK(refused > kRounds / 4);
    CHECK(refused < kRounds);
  }
}

}  // namespace kvmerger::test
