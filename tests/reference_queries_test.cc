// Reference queries: which tokens are sampled, and that what is replayed are the model's own queries, turned on.
#include "engine/reference_queries.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/attention_ragged.h"
#include "literal_port.h"
#include "measures.h"
#include "model/rotate.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kVocabulary = 96;

model::DecoderConfig tiny_config(uint32_t layers = 1) {
  model::DecoderConfig config;
  config.layers = layers;
  config.heads = config.kv_heads = config.head_dim = 1;
  return config;
}

// What a reader sees of a sample: which positions it holds, from the picks alone.
struct Sample {
  ReferenceQueries queries;
  std::vector<int32_t> slots;  // position of each slot
  int32_t read = 0;

  explicit Sample(uint32_t capacity) : queries(tiny_config(), capacity), slots(capacity, -1) {}

  void run(uint32_t tokens) {
    queries.begin_run(tokens, read);
    std::set<uint32_t> written;
    for (const ReferenceQueries::Pick& pick : queries.picks()) {
      CHECK(written.insert(pick.slot).second);  // no slot twice
      CHECK(pick.token < tokens);
      slots[pick.slot] = read + static_cast<int32_t>(pick.token);
    }
    read += static_cast<int32_t>(tokens);
  }
  std::set<int32_t> positions() const {
    return {slots.begin(), slots.begin() + static_cast<std::ptrdiff_t>(queries.count())};
  }
};

std::set<int32_t> sampled(uint32_t capacity, uint32_t total, uint32_t batch) {
  Sample sample(capacity);
  for (uint32_t done = 0; done < total; done += batch) sample.run(std::min(batch, total - done));
  return sample.positions();
}

}  // namespace

TEST_CASE("the sample has as many tokens as fit, however they come in batches, the first four only as a last resort") {
  for (const uint32_t total : {0U, 3U, 4U, 5U, 60U, 1000U}) {
    for (const uint32_t capacity : {1U, 16U, 86U}) {
      const std::set<int32_t> whole = sampled(capacity, total, std::max(1U, total));
      CHECK(whole.size() == std::min(capacity, total));
      for (const int32_t position : whole) {
        CHECK(position < static_cast<int32_t>(total));
        CHECK((position >= 4 || total < capacity + 4));
      }
      for (const uint32_t batch : {1U, 7U, 64U, 512U}) CHECK(sampled(capacity, total, batch) == whole);
    }
  }
}

TEST_CASE("nothing is sampled without room") {
  CHECK(sampled(0, 100, 10).empty());
  ReferenceQueries none;
  none.begin_run(10, 0);
  CHECK(none.picks().empty());
  CHECK(none.count() == 0);
}

TEST_CASE("the sample of fewer tokens is a part of that of more, and a longer text only takes places") {
  std::set<int32_t> smaller;
  for (uint32_t capacity = 1; capacity < 60; ++capacity) {
    const std::set<int32_t> sample = sampled(capacity, 700, 100);
    CHECK(std::ranges::includes(sample, smaller));
    smaller = sample;
  }
  Sample growing(30);
  for (int32_t total = 1; total < 500; ++total) {
    const std::set<int32_t> before = growing.positions();
    growing.run(1);
    std::set<int32_t> after = growing.positions();
    after.erase(total - 1);
    CHECK(std::ranges::includes(before, after));
  }
}

TEST_CASE("the sample is uniform over the text") {
  constexpr uint32_t kBins = 16;
  double chi_square = 0.0, freedom = 0.0;
  for (const uint32_t total : {1000U, 2000U, 5000U, 9000U}) {
    for (const uint32_t capacity : {64U, 160U, 320U}) {
      std::vector<double> counts(kBins);
      for (const int32_t position : sampled(capacity, total + 4, 512)) {
        ++counts[static_cast<uint32_t>(position - 4) * kBins / total];
      }
      const double expected = double{1.0 * capacity} / kBins;
      for (const double count : counts) chi_square += (count - expected) * (count - expected) / expected;
      freedom += kBins - 1;
    }
  }
  // Within four standard deviations of its mean, also from below: evenly spaced is not random.
  CHECK(std::abs(chi_square - freedom) < 4 * std::sqrt(2 * freedom));
}

TEST_CASE("runs that are not sampled leave no picks") {
  Sample sample(10);
  sample.run(50);
  sample.queries.no_run();
  CHECK(sample.queries.picks().empty());
  CHECK(sample.queries.count() == 10);
}

TEST_CASE("truncate forgets the tokens behind, and the others keep their queries") {
  constexpr uint32_t kLayers = 3;
  ReferenceQueries queries(tiny_config(kLayers), 100);
  for (const int32_t first : {0, 70}) {
    queries.begin_run(70, first);
    for (const ReferenceQueries::Pick& pick : queries.picks()) {
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        *queries.slot(layer, pick.slot) = static_cast<float>(first) + static_cast<float>(pick.token + 1000 * layer);
      }
    }
  }
  std::set<int32_t> all;
  for (uint32_t slot = 0; slot < 100; ++slot) all.insert(static_cast<int32_t>(*queries.slot(0, slot)));
  REQUIRE(all.size() == 100);
  for (const int32_t end : {200, 120, 61, 30, 0}) {
    queries.truncate(end);
    std::erase_if(all, [&](int32_t position) { return position >= end; });
    std::set<int32_t> left;
    for (uint32_t slot = 0; slot < queries.count(); ++slot) {
      left.insert(static_cast<int32_t>(*queries.slot(0, slot)));
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        CHECK(*queries.slot(layer, slot) == *queries.slot(0, slot) + 1000.0F * static_cast<float>(layer));
      }
    }
    CHECK(left == all);
  }
}

namespace {

// One kind of model: how its positions turn queries.
struct Kind {
  const char* arch;
  test::ToyRope::Scaling scaling = test::ToyRope::kNone;
  uint32_t heads = 6, kv_heads = 2;
};

constexpr uint32_t kDim = 16;

test::ToyParams toy_params(const Kind& kind) {
  test::ToyParams params;
  params.arch = kind.arch;
  params.qkv_bias = params.arch == "qwen2";
  params.rope.scaling = kind.scaling;
  params.n_layer = 3;
  params.n_head = kind.heads;
  params.n_head_kv = kind.kv_heads;
  params.n_embd = kind.heads * kDim;
  params.n_vocab = kVocabulary;
  return params;
}

// [head_dim / 2] angle of one position, as the papers have it.
std::vector<double> angles(const Kind& kind) {
  const test::ToyRope rope = toy_params(kind).rope;
  std::vector<double> angles;
  const double pairs = kDim / 2, base = double{rope.base}, factor = double{rope.factor};
  const auto turned_in = [&](double turns) {  // the pair that makes so many turns over the original context (YaRN, 17)
    return kDim * std::log(rope.original_context / (turns * 2 * M_PI)) / (2 * std::log(base));
  };
  for (double pair = 0; pair < pairs; ++pair) {
    const double angle = std::pow(base, -pair / pairs);
    if (kind.scaling == test::ToyRope::kLinear) {
      angles.push_back(angle / factor);
    } else if (kind.scaling == test::ToyRope::kLlama3) {
      const double ramp = std::clamp((3 * pair - pairs) / pairs, 0.0, 1.0);  // as the toy's file says
      angles.push_back(angle / (1 + (factor - 1) * ramp));
    } else if (kind.scaling == test::ToyRope::kYarn) {
      const double low = std::max(0.0, std::floor(turned_in(32))), high = std::min(kDim - 1.0, std::ceil(turned_in(1)));
      const double slowed = std::clamp((pair - low) / std::max(0.001, high - low), 0.0, 1.0);
      angles.push_back(angle * (1 - slowed) + angle / factor * slowed);
    } else {
      angles.push_back(angle);
    }
  }
  return angles;
}

// One head's query [head_dim] turned by so many positions.
std::vector<double> turned(const Kind& kind, std::span<const float> query, double positions) {
  const bool halves = std::string(kind.arch) != "llama";  // pairs (i, i + d/2), otherwise (2i, 2i + 1)
  const std::vector<double> angle = angles(kind);
  std::vector<double> result(kDim);
  for (uint32_t pair = 0; pair < kDim / 2; ++pair) {
    const uint32_t one = halves ? pair : 2 * pair, other = halves ? pair + kDim / 2 : 2 * pair + 1;
    const double x = double{query[one]}, y = double{query[other]};
    const double cosine = std::cos(positions * angle[pair]), sine = std::sin(positions * angle[pair]);
    result[one] = x * cosine - y * sine;
    result[other] = x * sine + y * cosine;
  }
  return result;
}

double distance(std::span<const float> found, const std::vector<double>& expected) {
  double most = 0.0;
  for (size_t at = 0; at < expected.size(); ++at) most = std::max(most, std::abs(double{found[at]} - expected[at]));
  return most;
}

const std::vector<Kind> kKinds{{"llama"},
                               {"qwen2"},
                               {"qwen3"},
                               {"llama", test::ToyRope::kLinear},
                               {"qwen2", test::ToyRope::kLinear},
                               {"llama", test::ToyRope::kYarn},
                               {"qwen2", test::ToyRope::kYarn},
                               {"llama", test::ToyRope::kLlama3},
                               {"llama", test::ToyRope::kNone, 4, 4},
                               {"qwen2", test::ToyRope::kNone, 7, 1}};

struct Toy {
  explicit Toy(const Kind& kind) : file(toy_params(kind)), model(file.path()) {}
  test::ToyModel file;
  model::Model model;
};

// Reads the tokens in batches, sampling at most `capacity` of them.
ReferenceQueries read_sampling(const model::Model& model, std::span<const int32_t> tokens, uint32_t batch,
                               uint32_t capacity) {
  const model::DecoderConfig& config = model.config();
  kv::StoreShape shape;
  shape.layers = config.layers;
  shape.heads = config.kv_heads;
  shape.head_dim = config.head_dim;
  shape.key_type = shape.value_type = kernels::RowType::kF32;
  kv::Store store(shape);
  ReferenceQueries queries(config, capacity);
  RaggedAttention attention(config, store, queries, 1);
  RaggedAttention::Recording recording;
  recording.queries = true;
  attention.record(recording);
  model::Executor executor(1);
  for (uint32_t done = 0; done < tokens.size();) {
    const uint32_t count = std::min(batch, static_cast<uint32_t>(tokens.size()) - done);
    attention.begin_run(count, static_cast<int32_t>(done));
    model::DecoderGraph graph(model, attention, count, model::Outputs::kNone);
    REQUIRE(graph.run(executor, tokens.subspan(done, count), static_cast<int32_t>(done), nullptr));
    done += count;
  }
  return queries;
}

// Where a replayed query comes from and how far it was turned, or token -1. Of all queries of this layer and head at
// all positions, turned to each of the 512 positions behind the text, the one that it is. Not for the first layer,
// where a token's query depends on nothing else.
struct Origin {
  int32_t token = -1, future = -1;
};

Origin origin(const Kind& kind, const test::LiteralPort::Layer& layer, std::span<const float> replayed, uint32_t head,
              int32_t end) {
  for (int32_t token = 0; token < end; ++token) {
    const size_t at = (static_cast<size_t>(token) * kind.heads + head) * kDim;
    const std::span<const float> query(&layer.query[at], kDim);
    double own = 0.0, other = 0.0;  // turning keeps lengths
    for (uint32_t dim = 0; dim < kDim; ++dim) {
      own += double{query[dim]} * double{query[dim]};
      other += double{replayed[dim]} * double{replayed[dim]};
    }
    if (std::abs(own - other) > 1e-3 * own) continue;
    for (int32_t future = 0; future < 512; ++future) {
      if (distance(replayed, turned(kind, query, end + future - token)) < 2e-3) return {token, future};
    }
  }
  return {};
}

}  // namespace

TEST_CASE("rotate: by the formula, for pairs and halves and every scaling of frequencies, lengths stay") {
  Rng rng(1);
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.arch);
    CAPTURE(static_cast<int>(kind.scaling));
    const Toy toy(kind);
    const std::vector<int32_t> moves{0, 1, 5, 64, 511, 1000, 3};
    std::vector<float> rows(moves.size() * kind.heads * kDim);
    for (float& value : rows) value = static_cast<float>(rng.uniform() * 2 - 1);
    const std::vector<float> before = rows;
    model::rotate(toy.model, rows, moves);
    for (size_t row = 0; row < moves.size() * kind.heads; ++row) {
      const std::span<const float> was(&before[row * kDim], kDim), is(&rows[row * kDim], kDim);
      CHECK(distance(is, turned(kind, was, moves[row / kind.heads])) < 1e-3);
    }
    // Turned twice is turned by the sum.
    std::vector<float> twice = before;
    const std::vector<int32_t> first(moves.size(), 100);
    std::vector<int32_t> second;
    for (const int32_t move : moves) second.push_back(move + 17);
    model::rotate(toy.model, twice, first);
    model::rotate(toy.model, twice, second);
    for (size_t row = 0; row < moves.size() * kind.heads; ++row) {
      const std::span<const float> was(&before[row * kDim], kDim), is(&twice[row * kDim], kDim);
      CHECK(distance(is, turned(kind, was, moves[row / kind.heads] + 117)) < 1e-3);
    }
  }
}

TEST_CASE(
    "what is replayed are the model's own queries at the sampled tokens, turned on behind the text, head by head") {
  for (const Kind& kind : kKinds) {
    CAPTURE(kind.arch);
    CAPTURE(static_cast<int>(kind.scaling));
    CAPTURE(kind.heads);
    const Toy toy(kind);
    const std::vector<int32_t> tokens = test::random_tokens(90, kVocabulary, 3);
    test::LiteralPort literal(toy.model);
    literal.read(tokens);
    const uint32_t group = kind.heads / kind.kv_heads, sample = 12;
    const auto heads = read_sampling(toy.model, tokens, 32, sample).replayed(toy.model, 90, sample * group);
    REQUIRE(heads.size() == 3 * kind.kv_heads);
    std::vector<Origin> origins;
    for (uint32_t index = 0; index < sample; ++index) {
      origins.push_back(
          origin(kind, literal.layer(2), std::span(heads[2 * kind.kv_heads]).subspan(index * kDim, kDim), 0, 90));
      CHECK(origins[index].token >= 4);
      CHECK((index == 0 || origins[index].token > origins[index - 1].token));
    }
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t head = 0; head < kind.heads; ++head) {
        const std::vector<float>& rows = heads[layer * kind.kv_heads + head / group];
        REQUIRE(rows.size() == size_t{sample} * group * kDim);
        for (uint32_t index = 0; index < sample; ++index) {
          const auto [token, future] = origins[index];
          const float* query = &literal.layer(layer).query[(static_cast<size_t>(token) * kind.heads + head) * kDim];
          const std::span<const float> found(&rows[(head % group * sample + index) * kDim], kDim);
          CHECK(distance(found, turned(kind, {query, kDim}, 90 + future - token)) < 2e-3);
        }
      }
    }
  }
}

TEST_CASE("the tokens replayed are those of the sample, at positions spread over the next 512") {
  const Kind kind{"llama"};
  const Toy toy(kind);
  const std::vector<int32_t> tokens = test::random_tokens(300, kVocabulary, 4);
  test::LiteralPort literal(toy.model);
  literal.read(tokens);
  const auto heads = read_sampling(toy.model, tokens, 100, 40).replayed(toy.model, 300, 40 * 3);
  std::set<int32_t> found;
  double mean = 0.0;
  for (uint32_t index = 0; index < 40; ++index) {
    const Origin from = origin(kind, literal.layer(2), std::span(heads[4]).subspan(index * kDim, kDim), 0, 300);
    found.insert(from.token);
    mean += from.future / 40.0;
  }
  CHECK(found == sampled(40, 300, 77));
  CHECK(std::abs(mean - 255.5) < 4 * 512 / std::sqrt(12.0 * 40));
}

TEST_CASE("batches make no difference to what is replayed, and fewer queries are a part of more") {
  const Toy toy(Kind{"qwen2"});
  const std::vector<int32_t> tokens = test::random_tokens(150, kVocabulary, 5);
  const auto whole = read_sampling(toy.model, tokens, 150, 20).replayed(toy.model, 150, 60);
  for (const uint32_t batch : {1U, 64U}) {
    const auto other = read_sampling(toy.model, tokens, batch, 20).replayed(toy.model, 150, 60);
    REQUIRE(other.size() == whole.size());
    for (size_t head = 0; head < whole.size(); ++head) CHECK(test::nmse(other[head], whole[head]) < 1e-8);
  }
  const auto fewer = read_sampling(toy.model, tokens, 150, 20).replayed(toy.model, 150, 12);
  const auto none_more = read_sampling(toy.model, tokens, 150, 60).replayed(toy.model, 150, 12);
  CHECK(fewer == none_more);  // whatever else was sampled
  const auto rows = [](const std::vector<float>& head) {
    std::set<std::vector<float>> rows;
    for (size_t at = 0; at < head.size(); at += kDim) {
      rows.emplace(head.begin() + static_cast<std::ptrdiff_t>(at),
                   head.begin() + static_cast<std::ptrdiff_t>(at + kDim));
    }
    return rows;
  };
  for (size_t head = 0; head < whole.size(); ++head) {
    CHECK(fewer[head].size() < whole[head].size());
    CHECK(std::ranges::includes(rows(whole[head]), rows(fewer[head])));
  }
}

TEST_CASE("the first four tokens are replayed only when there are no others") {
  const Toy toy(Kind{"llama"});
  const auto replayed_tokens = [&](uint32_t total) {
    const std::vector<int32_t> tokens = test::random_tokens(total, kVocabulary, 6);
    const auto heads = read_sampling(toy.model, tokens, 4, 20).replayed(toy.model, static_cast<int32_t>(total), 60);
    REQUIRE(heads.size() == 6);
    return heads[0].size() / (3 * kDim);
  };
  CHECK(replayed_tokens(1) == 1);
  CHECK(replayed_tokens(4) == 4);
  CHECK(replayed_tokens(5) == 1);
  CHECK(replayed_tokens(7) == 3);
  CHECK(replayed_tokens(24) == 20);
}

TEST_CASE("without a sample nothing is replayed") {
  const Toy toy(Kind{"llama"});
  CHECK(read_sampling(toy.model, test::random_tokens(10, kVocabulary, 6), 4, 0).replayed(toy.model, 10, 60).empty());
  CHECK(ReferenceQueries().replayed(toy.model, 100, 60).empty());
}

}  // namespace kvmerger::engine
