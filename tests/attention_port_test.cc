// Statistics recorded by the attention port: totals, windows, and independence of batches.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "core/rng.h"
#include "engine/attention_ragged.h"
#include "model/graph.h"
#include "model/model.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kVocabulary = 96, kLayers = 3, kHeads = 2, kGroup = 3;

const model::Model& toy() {
  test::ToyParams params;
  params.n_layer = kLayers;
  params.n_head = kHeads * kGroup;
  params.n_head_kv = kHeads;
  params.n_embd = 96;
  params.n_vocab = kVocabulary;
  static const test::ToyModel file(params);
  static const model::Model model(file.path());
  return model;
}

kv::StoreShape toy_shape() {
  const model::DecoderConfig& config = toy().config();
  kv::StoreShape shape;
  shape.layers = config.layers;
  shape.heads = config.kv_heads;
  shape.head_dim = config.head_dim;
  shape.key_type = shape.value_type = kernels::RowType::kF32;
  return shape;
}

// Reads `total` random tokens in batches and returns the store with all statistics recorded.
kv::Store recorded(uint32_t total, uint32_t batch, uint32_t window, uint32_t threads) {
  const model::DecoderConfig& config = toy().config();
  kv::StoreShape shape = toy_shape();
  shape.stats[0] = shape.stats[1] = shape.stats[2] = true;
  kv::Store store(shape);
  ReferenceQueries queries;
  RaggedAttention attention(config, store, queries, threads);
  RaggedAttention::Recording recording;
  recording.stats[0] = recording.stats[1] = recording.stats[2] = true;
  recording.window_from = static_cast<int32_t>(total - window);
  attention.record(recording);
  model::Executor executor(threads);
  Rng rng(1);
  for (uint32_t done = 0; done < total;) {
    const uint32_t count = std::min(batch, total - done);
    std::vector<int32_t> tokens;
    for (uint32_t index = 0; index < count; ++index) tokens.push_back(static_cast<int32_t>(rng.below(kVocabulary)));
    attention.begin_run(count, static_cast<int32_t>(done));
    model::DecoderGraph graph(toy(), attention, count, model::Outputs::kNone);
    REQUIRE(graph.run(executor, tokens, static_cast<int32_t>(done), nullptr));
    done += count;
  }
  return store;
}

// The logits of the last of tokens, of which it and `alone - 1` before it are read one at a time, as in decoding.
std::vector<float> last_logits(std::span<const int32_t> tokens, size_t alone, uint32_t threads) {
  kv::Store store(toy_shape());
  ReferenceQueries queries;
  RaggedAttention attention(toy().config(), store, queries, threads);
  attention.record({});
  model::Executor executor(threads);
  for (size_t done = 0; done < tokens.size();) {
    const size_t left = tokens.size() - done, count = left > alone ? std::min<size_t>(512, left - alone) : 1;
    const auto first_pos = static_cast<int32_t>(done);
    attention.begin_run(static_cast<uint32_t>(count), first_pos);
    model::DecoderGraph graph(toy(), attention, static_cast<uint32_t>(count), model::Outputs::kLast);
    REQUIRE(graph.run(executor, tokens.subspan(done, count), first_pos, nullptr));
    done += count;
    if (done == tokens.size()) return {graph.logits().begin(), graph.logits().end()};
  }
  return {};
}

double total(std::span<const float> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

TEST_CASE("decoding by parts, short and long ones, equals reading in batches, and not a bit depends on threads") {
  Rng rng(2);
  std::vector<int32_t> tokens(4500);  // of two heads: beyond 8,192 rows a layer parts grow
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng.below(kVocabulary));
  for (const size_t length : {size_t{700}, size_t{4097}, tokens.size()}) {
    CAPTURE(length);
    const std::span<const int32_t> text = std::span(tokens).first(length);
    const std::vector<float> batched = last_logits(text, 0, 2), decoded = last_logits(text, 3, 2);
    REQUIRE(batched.size() == kVocabulary);
    double spread = 0, difference = 0;
    for (size_t index = 0; index < batched.size(); ++index) {
      spread = std::max(spread, std::abs(double{batched[index]}));
      difference = std::max(difference, std::abs(double{batched[index]} - double{decoded[index]}));
    }
    CHECK(difference <= 1e-4 * spread);
    CHECK(last_logits(text, 3, 1) == decoded);
  }
}

TEST_CASE("attention sums add up to the number of queries") {
  const kv::Store store = recorded(333, 100, 32, 2);
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const kv::Store::LayerData data = store.view(layer);
    for (const kv::HeadView& head : data.view.heads) {
      REQUIRE(head.rows() == 333);
      CHECK(total(head.attn_sum) == doctest::Approx(333.0 * kGroup).epsilon(1e-5));
      CHECK(total(head.attn_win) == doctest::Approx(32.0 * kGroup).epsilon(1e-5));
      for (uint32_t row = 0; row < head.rows(); ++row) {
        CHECK(head.attn_win[row] <= head.attn_sum[row] * 1.0001F);
        CHECK(head.attn_max[row] <= 1.0001F);
        CHECK(head.attn_max[row] * 333 * kGroup >= head.attn_sum[row] * 0.9999F);
      }
      CHECK(head.attn_max[0] == doctest::Approx(1.0));  // the first query sees nothing else
    }
  }
}

TEST_CASE("a window over everything is the sum") {
  const kv::Store store = recorded(150, 64, 150, 2);
  const kv::Store::LayerData data = store.view(1);
  for (const kv::HeadView& head : data.view.heads) {
    for (uint32_t row = 0; row < head.rows(); ++row)
      CHECK(head.attn_win[row] == doctest::Approx(head.attn_sum[row]).epsilon(1e-5));
  }
}

TEST_CASE("statistics do not depend on batches, and not a bit on threads") {
  const kv::Store whole = recorded(300, 300, 40, 1), batched = recorded(300, 77, 40, 1),
                  threaded = recorded(300, 77, 40, 3);
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const kv::Store::LayerData a = whole.view(layer), b = batched.view(layer), c = threaded.view(layer);
    for (uint32_t head = 0; head < kHeads; ++head) {
      const kv::HeadView &one = a.view.heads[head], &two = b.view.heads[head], &three = c.view.heads[head];
      for (uint32_t row = 0; row < 300; ++row) {
        CHECK(two.attn_sum[row] == doctest::Approx(one.attn_sum[row]).epsilon(1e-4));
        CHECK(two.attn_win[row] == doctest::Approx(one.attn_win[row]).epsilon(1e-4));
        CHECK(two.attn_max[row] == doctest::Approx(one.attn_max[row]).epsilon(1e-4));
        CHECK(two.attn_sum[row] == three.attn_sum[row]);
      }
    }
  }
}

TEST_CASE("of two tokens the first gets all its own attention and some of the second's") {
  const kv::Store store = recorded(2, 2, 2, 1);
  const kv::Store::LayerData data = store.view(0);
  for (const kv::HeadView& head : data.view.heads) {
    CHECK(head.attn_sum[0] + head.attn_sum[1] == doctest::Approx(2.0 * kGroup));
    CHECK(head.attn_sum[0] > kGroup);
    CHECK(head.attn_sum[1] <= kGroup);
  }
}

}  // namespace kvmerger::engine
