// Whole methods by name, and laws that hold for every one of them.
#include "engine/methods.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "engine/session.h"
#include "measures.h"
#include "policy/policy.h"
#include "toy_model.h"

namespace kvmerger::engine {
namespace {

constexpr uint32_t kVocabulary = 96, kLayers = 4, kHeads = 2;

std::vector<Token> random_tokens(uint32_t count, uint64_t seed) {
  return test::random_tokens(count, kVocabulary, seed);
}

// group: query heads per KV head.
std::shared_ptr<const model::Model> toy(uint32_t group = 3) {
  test::ToyParams params;
  params.n_layer = kLayers;
  params.n_head = kHeads * group;
  params.n_head_kv = kHeads;
  params.head_dim = 16;
  params.n_embd = 96;
  params.n_vocab = kVocabulary;
  const test::ToyModel file(params);
  return std::make_shared<const model::Model>(file.path());
}

CompactionSpec spec(const std::string& method, const std::string& budget) {
  CompactionSpec spec = method_spec(method);
  spec.budget = budget;
  return spec;
}

// A compactor with, if need be, a profile in which later heads need more.
Compactor compactor(const std::string& method, const std::string& budget) {
  Compactor compactor(spec(method, budget));
  if (!compactor.needs_profile()) return compactor;
  auto profile = std::make_shared<budget::Profile>();
  profile->layers = kLayers;
  profile->heads = kHeads;
  for (uint32_t head = 0; head < kLayers * kHeads; ++head) {
    std::vector<float> scores;
    for (int row = 0; row < 500; ++row) scores.push_back(static_cast<float>(std::exp(-row / (20.0 * (1 + head)))));
    profile->quantiles.push_back(budget::quantiles_of(scores));
  }
  compactor.use_profile(profile);
  return compactor;
}

SessionOptions options(const Compactor& compactor, uint32_t threads = 1) {
  SessionOptions options;
  options.context = 2048;
  options.threads = threads;
  options.batch = 128;
  options.needs = compactor.needs();
  options.repeat_prompt = random_tokens(5, 99);
  return options;
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

struct TemporaryFile {
  std::string path = "/tmp/kvmerger-methods-test-" + std::to_string(getpid());
  ~TemporaryFile() { std::remove(path.c_str()); }
};

// All bytes of the cache.
std::string saved(const Session& session) {
  const TemporaryFile file;
  session.save(file.path, "{}");
  std::ifstream stream(file.path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool same(const CompactionSpec& found, const std::array<const char*, 3>& expected) {
  return found.policy == expected[0] && found.heads == expected[1] && found.fit == expected[2] && found.budget.empty();
}

}  // namespace

TEST_CASE("methods by name, by policy, with heads, with a fit") {
  for (const Method& method : methods()) {
    CHECK(same(method_spec(method.name), {method.policy, method.heads, method.fit}));
  }
  CHECK(same(method_spec("h2o"), {"h2o", "uniform", "none"}));
  CHECK(same(method_spec("h2o:recent=0.2+ada"), {"h2o:recent=0.2", "ada", "none"}));
  CHECK(same(method_spec("cam+ada:alpha=0.5+ls:lambda=1,clip=2"), {"cam", "ada:alpha=0.5", "ls:lambda=1,clip=2"}));
  CHECK_THROWS_WITH_AS(method_spec("a+b+c+d"), doctest::Contains("policy+heads+fit"), UsageError);
}

TEST_CASE("every method of the table can be run, and hides no policy") {
  std::set<std::string> names;
  for (const policy::Entry& entry : policy::all()) names.insert(entry.name);
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    CHECK(names.insert(method.name).second);
    CHECK(Compactor(spec(method.name, "35%")).active());
    CHECK_THROWS_AS(Compactor(spec(cat(method.name, ":nonesuch=1"), "35%")), UsageError);
  }
  for (const char* wrong : {"", "nonesuch", "h2o+nonesuch", "h2o+ada+nonesuch", "h2o++", "+ada"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(Compactor(spec(wrong, "35%")), UsageError);
  }
}

TEST_CASE("lists of methods are split at the commas between them, not at those between options") {
  using List = std::vector<std::string>;
  CHECK(split_methods("default") == List{"default"});
  CHECK(split_methods("default,h2o,paper") == List{"default", "h2o", "paper"});
  CHECK(split_methods("kvmerger:epsilon=0.8,recent=64,h2o") == List{"kvmerger:epsilon=0.8,recent=64", "h2o"});
  CHECK(split_methods("h2o,a:b=c,d=e+f:g=h,i=j,k:l=m,n") == List{"h2o", "a:b=c,d=e+f:g=h,i=j", "k:l=m", "n"});
  CHECK(split_methods("a+b:c=d,e") == List{"a+b:c=d", "e"});
  CHECK(split_methods("a:b=c,d=e+f:g=h") == List{"a:b=c,d=e+f:g=h"});
  CHECK(split_methods("h2o,recent=3") == List{"h2o", "recent=3"});  // no method: the Compactor says so
}

TEST_CASE("lists of any methods, joined and split again") {
  Rng rng(1);
  const auto part = [&](const char* name) {
    std::string text = name;
    for (uint32_t option = 0, count = rng.below(4); option < count; ++option) {
      text += cat(option == 0 ? ":" : ",", "key", option, "=", rng.below(100));
    }
    return text;
  };
  for (int round = 0; round < 500; ++round) {
    std::vector<std::string> list;
    std::string joined;
    for (uint32_t method = 0, count = 1 + rng.below(5); method < count; ++method) {
      list.push_back(part("policy"));
      if (rng.below(2)) list.back() += "+" + part("heads");
      if (rng.below(3) == 0) list.back() += "+" + part("fit");
      joined += (method == 0 ? "" : ",") + list.back();
    }
    CHECK(split_methods(joined) == list);
  }
}

TEST_CASE("with a budget of everything no method changes a byte of the cache") {
  const auto model = toy();
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    const Compactor all = compactor(method.name, "100%");
    Session session(model, options(all)), control(model, options(all));
    session.extend(random_tokens(300, 1), true);
    control.extend(random_tokens(300, 1), true);
    if (all.needs().reconstruction) control.reconstruct();
    const CompactionReport report = session.compact(all);
    CHECK(report.rows_after == 300 * kLayers * kHeads);
    CHECK(report.error == 0.0);
    if (all.needs().window == 0) CHECK(saved(session) == saved(control));  // the window begins anew
    for (Session* one : {&session, &control}) one->extend(random_tokens(20, 2));
    CHECK(copy(session.logits()) == copy(control.logits()));
  }
}

TEST_CASE("law 16: the same input gives the same bytes, with any number of threads") {
  const auto model = toy();
  for (const Method& method : methods()) {
    CAPTURE(method.name);
    const Compactor chosen = compactor(method.name, "30%");
    std::vector<std::string> bytes;
    for (const uint32_t threads : {1U, 2U, 3U, 1U}) {
      Session session(model, options(chosen, threads));
      session.extend(random_tokens(200, 3), true);
      session.compact(chosen);
      session.extend(random_tokens(20, 4), true);
      bytes.push_back(saved(session));
    }
    for (const std::string& other : bytes) CHECK(other == bytes[0]);
  }
}

TEST_CASE("every method holds its budget, predicts errors that are numbers, and goes on") {
  const auto model = toy();
  for (const Method& method : methods()) {
    for (const char* budget : {"60%", "20%", "3%", "1"}) {
      CAPTURE(method.name);
      CAPTURE(budget);
      const Compactor chosen = compactor(method.name, budget);
      Session session(model, options(chosen));
      session.extend(random_tokens(400, 5), true);
      const CompactionReport report = session.compact(chosen);
      const uint64_t allowed = budget::total_rows(budget::parse_size(budget), std::vector<uint32_t>(8, 400), 1);
      CHECK(report.rows_after <= allowed);
      CHECK(report.rows_after == session.rows());
      CHECK(report.errors.size() == (chosen.needs().queries > 0 ? 8 : 0));
      double squares = 0.0;
      for (const double error : report.errors) {
        CHECK(error >= 0.0);
        squares += error * error / 8;
      }
      CHECK(report.error == doctest::Approx(std::sqrt(squares)));
      session.extend(random_tokens(5, 6), true);
      session.compact(chosen);
      session.extend(random_tokens(5, 7));
      for (const float logit : session.logits()) REQUIRE(std::isfinite(logit));
    }
  }
}

TEST_CASE("the fit of the default lowers the error that it predicts") {
  const auto model = toy();
  const Compactor with = compactor("default", "20%"), without = compactor("expected_attention+profile", "20%");
  Session session(model, options(with));
  session.extend(random_tokens(500, 8), true);
  const std::unique_ptr<Session> fork = session.fork();
  const CompactionReport fitted = session.compact(with), plain = fork->compact(without);
  CHECK(fitted.rows == plain.rows);
  CHECK(fitted.error < 0.9 * plain.error);
}

TEST_CASE("texts of a few tokens are compacted too") {
  for (const uint32_t group : {1U, 3U}) {
    const auto model = toy(group);
    for (const char* method : {"default", "document", "h2o+uniform+ls"}) {
      for (uint32_t tokens = 1; tokens <= 12; ++tokens) {
        CAPTURE(group);
        CAPTURE(method);
        CAPTURE(tokens);
        const Compactor half = compactor(method, "50%");
        Session session(model, options(half));
        session.extend(random_tokens(tokens, 9), true);
        CHECK_NOTHROW(session.compact(half));
        CHECK(session.rows() <= std::max(1U, tokens / 2) * kLayers * kHeads + kLayers * kHeads);
        session.extend(random_tokens(1, 10));
        for (const float logit : session.logits()) REQUIRE(std::isfinite(logit));
      }
    }
  }
}

}  // namespace kvmerger::engine
