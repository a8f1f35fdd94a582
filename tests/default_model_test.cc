// The default model, real weights: our logits and perplexity against libllama's.
#include <doctest/doctest.h>
#include <ggml.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "dequantised.h"
#include "engine/session.h"
#include "measures.h"
#include "model/attention_port.h"
#include "model/graph.h"
#include "model/model.h"
#include "oracle.h"
#include "stories260k.h"
#include "text/tokenizer.h"

namespace kvmerger::test {
namespace {

std::string default_model() {
  if (const char* path = std::getenv("KVMERGER_MODEL")) return path;
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  return (cache ? std::string(cache) : std::string(home ? home : "") + "/.cache") +
         "/kvmerger/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

bool model_there() {
  const bool there = std::filesystem::exists(default_model());
  if (!there) MESSAGE("skipped: no model at ", default_model(), "; run tools/fetch_model");
  return there;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The README is always there, and is English.
std::vector<int32_t> some_tokens(uint32_t count) {
  const text::Tokenizer tokenizer(default_model());
  std::string text = read_file(std::string(KVMERGER_SOURCE_DIR) + "/docs/architecture.md");
  std::vector<int32_t> tokens = tokenizer.encode(text, true, false);
  REQUIRE(tokens.size() >= count);
  tokens.resize(count);
  return tokens;
}

std::vector<float> our_logits(const std::string& path, const std::vector<int32_t>& tokens) {
  engine::SessionOptions options;
  options.threads = 2;
  engine::Session session(std::make_shared<const model::Model>(path), options);
  std::vector<float> logits;
  session.score(tokens,
                [&](uint32_t, std::span<const float> row) { logits.insert(logits.end(), row.begin(), row.end()); });
  return logits;
}

// The attention port on ggml's own flash attention, for one batch without a past: what libllama computes, bit for bit.
class StockAttention final : public model::AttentionPort {
 public:
  ggml_tensor* mask = nullptr;  // [tokens, tokens] f16, an input

  ggml_tensor* attend(ggml_context* context, uint32_t, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v) override {
    const int64_t tokens = q->ne[2];
    if (!mask) {
      mask = ggml_new_tensor_2d(context, GGML_TYPE_F16, tokens, tokens);
      ggml_set_input(mask);
    }
    const auto half = [&](ggml_tensor* rows) {  // [head_dim, heads, tokens] f32 -> [head_dim, tokens, heads] f16
      return ggml_permute(context, ggml_cast(context, rows, GGML_TYPE_F16), 0, 2, 1, 3);
    };
    const float scale = 1.0F / std::sqrt(static_cast<float>(q->ne[0]));
    ggml_tensor* out =
        ggml_flash_attn_ext(context, ggml_permute(context, q, 0, 2, 1, 3), half(k), half(v), mask, scale, 0.0F, 0.0F);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    return ggml_reshape_2d(context, out, q->ne[0] * q->ne[1], tokens);
  }

  void fill_mask() const {
    auto* values = static_cast<ggml_fp16_t*>(mask->data);
    for (int64_t query = 0; query < mask->ne[1]; ++query) {
      for (int64_t row = 0; row < mask->ne[0]; ++row) {
        values[query * mask->ne[0] + row] = ggml_fp32_to_fp16(row <= query ? 0.0F : -INFINITY);
      }
    }
  }
};

}  // namespace

TEST_CASE("the default model as it is, with ggml's own products and flash attention: libllama's logits") {
  if (!model_there()) return;
  const std::vector<int32_t> tokens = some_tokens(63);  // from 64 on products are ours
  const model::Model model(default_model());
  StockAttention attention;
  model::Executor executor(2);
  model::DecoderGraph graph(model, attention, 63, model::Outputs::kAll);
  attention.fill_mask();
  REQUIRE(graph.run(executor, tokens, 0, nullptr));
  const std::vector<float> expected = llama_logits(default_model(), tokens, KvType::kF16, false, 2);
  MESSAGE("NMSE ", nmse(graph.logits(), expected));
  CHECK(nmse(graph.logits(), expected) < 1e-9);
  CHECK(same_argmax(graph.logits(), expected, expected.size() / tokens.size()) >= 0.99);
}

TEST_CASE("the default model's weights as f32: libllama's logits over 512 tokens, f16 cache") {
  if (!model_there()) return;
  const std::vector<int32_t> tokens = some_tokens(512);
  const DequantisedModel model(default_model());
  const std::vector<float> expected = llama_logits(model.path(), tokens, KvType::kF16, false, 2);
  const std::vector<float> found = our_logits(model.path(), tokens);
  CHECK(nmse(found, expected) < 1e-4);
  CHECK(same_argmax(found, expected, expected.size() / tokens.size()) >= 0.99);
}

// With 4-bit weights ggml rounds activations to 8 bits before each product. Differences of 1e-7 tip roundings, and
// these tip others: libllama with and without flash attention differ by an NMSE of 1e-3. Nobody can be nearer to it
// than that; but to what the weights say without such roundings we can be nearer than libllama.
TEST_CASE("the default model as it is: as near to libllama as libllama is to itself") {
  if (!model_there()) return;
  const std::vector<int32_t> tokens = some_tokens(512);
  const std::vector<float> flash = llama_logits(default_model(), tokens, KvType::kF16, false, 2);
  const std::vector<float> plain = llama_logits(default_model(), tokens, KvType::kF32, false, 2);
  const std::vector<float> found = our_logits(default_model(), tokens);
  const size_t vocabulary = flash.size() / tokens.size();
  const double floor = nmse(plain, flash), ours = nmse(found, flash);
  const std::vector<float> exact =
      llama_logits(DequantisedModel(default_model()).path(), tokens, KvType::kF16, false, 2);
  MESSAGE("NMSE to weights as f32: libllama ", nmse(flash, exact), ", ours ", nmse(found, exact));
  CHECK(nmse(found, exact) < nmse(flash, exact));
  CHECK(same_argmax(found, exact, vocabulary) >= 0.95);
  const double their_argmax = same_argmax(plain, flash, vocabulary), our_argmax = same_argmax(found, flash, vocabulary);
  MESSAGE("NMSE: libllama to itself ", floor, ", ours to libllama ", ours, "; same argmax ", their_argmax, " and ",
          our_argmax);
  CHECK(ours < 1.5 * floor);
  // Some 5 % of 512 tokens are near ties, so shares of equals deviate by .01; how they fall depends on ggml's
  // instruction set.
  CHECK(our_argmax >= their_argmax - 0.02);
  double ours_loss = 0, their_loss = 0;
  for (size_t index = 0; index + 1 < tokens.size(); ++index) {
    ours_loss += loss(std::span(found).subspan(index * vocabulary, vocabulary), tokens[index + 1]);
    their_loss += loss(std::span(flash).subspan(index * vocabulary, vocabulary), tokens[index + 1]);
  }
  CHECK(ours_loss == doctest::Approx(their_loss).epsilon(0.005));
}

}  // namespace kvmerger::test
