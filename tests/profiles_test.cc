// Profiles of models: measured, kept in files, found in the user's cache folder.
#include "engine/profiles.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "core/rng.h"
#include "engine/prompt.h"
#include "talking_model.h"

namespace kvmerger::engine {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kAllHeads = test::kTalkingLayers * test::kTalkingHeads;

std::shared_ptr<const model::Model> toy() {
  static const auto model = std::make_shared<const model::Model>(test::talking_model());
  return model;
}

const text::Tokenizer& tokenizer() {
  static const text::Tokenizer tokenizer(test::talking_model());
  return tokenizer;
}

// A token per letter, and one in front.
std::string letters(uint32_t count, uint64_t seed) {
  Rng rng(seed);
  std::string text;
  while (text.size() < count) text += static_cast<char>('a' + rng.below(26));
  return text;
}

budget::Profile calibrated(const CalibrateOptions& options) { return calibrate(toy(), tokenizer(), options); }

// A folder of its own that is the user's cache while it lives; nothing is said on stderr.
class Cache {
 public:
  Cache() {
    std::string name = "/tmp/kvmerger-profiles-test-XXXXXX";
    path_ = ::mkdtemp(name.data());
    ::setenv("XDG_CACHE_HOME", path_.c_str(), 1);
    set_log_level(LogLevel::kQuiet);
  }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  ~Cache() { fs::remove_all(path_); }
  fs::path path() const { return path_; }
  size_t files() const {
    return static_cast<size_t>(std::ranges::count_if(fs::recursive_directory_iterator(path_),
                                                     [](const auto& entry) { return entry.is_regular_file(); }));
  }

 private:
  fs::path path_;
};

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Compactor by_profile() {
  CompactionSpec spec;
  spec.policy = "streaming_llm";
  spec.heads = "profile";
  spec.budget = "30%";
  return Compactor(spec);
}

// [layers * heads] what the compactor's profile makes of 400 tokens.
std::vector<uint32_t> rows_by(const Compactor& compactor) {
  SessionOptions options;
  options.threads = 1;
  Session session(toy(), options);
  session.extend(tokenizer().encode(letters(400, 7), false, false));
  return session.compact(compactor).rows;
}

// One in which nobody but the given head needs rows.
budget::Profile hungry(uint32_t head) {
  budget::Profile profile = calibrated({{letters(300, 1)}, 0, 1});
  for (uint32_t other = 0; other < kAllHeads; ++other) profile.quantiles[other].fill(other == head ? 0.9F : 1e-8F);
  return profile;
}

size_t most(const std::vector<uint32_t>& rows) {
  return static_cast<size_t>(std::ranges::max_element(rows) - rows.begin());
}

}  // namespace

TEST_CASE("a profile holds what the rows of the texts got while they were repeated, but for the ends") {
  const std::vector<std::string> texts{letters(299, 2), letters(700, 3)};
  std::vector<std::vector<float>> scores(kAllHeads);
  for (const std::string& text : texts) {
    std::vector<Token> tokens = tokenizer().encode(text, true, false);
    tokens.resize(std::min<size_t>(tokens.size(), 600));
    SessionOptions options;
    options.threads = 1;
    options.needs.reconstruction = true;
    options.repeat_prompt = repeat_prompt(tokenizer());
    Session session(toy(), options);
    session.extend(tokens);
    session.reconstruct();
    for (uint32_t head = 0; head < kAllHeads; ++head) {
      const std::vector<float> rows = session.reconstruction(head / test::kTalkingHeads, head % test::kTalkingHeads);
      for (size_t row = 4; row + 32 < rows.size(); ++row) scores[head].push_back(rows[row]);
    }
  }
  const budget::Profile profile = calibrated({texts, 600, 1});
  CHECK(profile.layers == test::kTalkingLayers);
  CHECK(profile.heads == test::kTalkingHeads);
  CHECK(profile.fingerprint == toy()->facts().fingerprint);
  CHECK(profile.name == "Toy");
  CHECK(profile.made.find("300 and 600 tokens of the user's text") == 0);
  REQUIRE(profile.quantiles.size() == kAllHeads);
  for (uint32_t head = 0; head < kAllHeads; ++head) {
    CHECK(scores[head].size() == 300 + 600 - 2 * 36);
    CHECK(profile.quantiles[head] == budget::quantiles_of(scores[head]));
  }
}

TEST_CASE("calibrating gives the same with any number of threads, and again") {
  const std::string text = letters(400, 4);
  const budget::Profile one = calibrated({{text}, 0, 1}), two = calibrated({{text}, 0, 2});
  CHECK(one.quantiles == two.quantiles);
  CHECK(one.made == two.made);
  CHECK(calibrated({{text}, 0, 1}).quantiles == one.quantiles);
  CHECK(calibrated({{letters(400, 5)}, 0, 1}).quantiles != one.quantiles);
}

TEST_CASE("texts that are too short to calibrate with are refused") {
  CHECK_THROWS_WITH_AS(calibrated({{letters(254, 1)}, 0, 1}), doctest::Contains("255 tokens"), Error);
  CHECK_NOTHROW(calibrated({{letters(255, 1)}, 0, 1}));
  CHECK_THROWS_AS(calibrated({{letters(300, 1), "short"}, 0, 1}), Error);
  for (const uint32_t tokens : {1U, 20U, 255U}) {  // cut too short
    CHECK_THROWS_WITH_AS(calibrated({{letters(300, 1)}, tokens, 1}), doctest::Contains("too short"), Error);
  }
}

TEST_CASE("calibrating says how far it is and can be cut off") {
  std::vector<std::pair<uint32_t, uint32_t>> said;
  RunHooks hooks;
  hooks.progress = [&](uint32_t done, uint32_t total) { said.emplace_back(done, total); };
  calibrate(toy(), tokenizer(), {{letters(300, 1), letters(300, 2)}, 0, 1}, hooks);
  REQUIRE(!said.empty());
  CHECK(said.back().first == said.back().second);
  CHECK(std::ranges::is_sorted(said));
  hooks.cancelled = [] { return true; };
  CHECK_THROWS_AS(calibrate(toy(), tokenizer(), {{letters(300, 1)}, 0, 1}, hooks), Interrupted);
}

TEST_CASE("a profile saved and loaded, folders are made on the way, nothing else is left behind") {
  const Cache cache;
  const budget::Profile profile = calibrated({{letters(300, 1)}, 0, 1});
  const std::string path = cache.path() / "a/b/profile.json";
  save_profile(profile, path);
  save_profile(profile, path);  // over the old one
  CHECK(cache.files() == 1);
  const budget::Profile loaded = load_profile(path, *toy());
  CHECK(loaded.made == profile.made);
  for (uint32_t head = 0; head < kAllHeads; ++head) {
    for (uint32_t entry = 0; entry < budget::kQuantiles; ++entry) {
      CHECK(loaded.quantiles[head][entry] == doctest::Approx(profile.quantiles[head][entry]).epsilon(1e-3));
    }
  }
  CHECK(content(path).size() < 20000);
}

TEST_CASE("profiles that cannot be written or used: the message names the file") {
  const Cache cache;
  const budget::Profile profile = calibrated({{letters(300, 1)}, 0, 1});
  CHECK_THROWS_WITH_AS(save_profile(profile, "/dev/null/profile.json"), doctest::Contains("/dev/null/profile.json"),
                       Error);
  const std::string path = cache.path() / "profile.json";
  fs::create_directory(path);  // a folder has its name
  CHECK_THROWS_WITH_AS(save_profile(profile, path), doctest::Contains(path.c_str()), Error);
  CHECK(cache.files() == 0);
  fs::remove(path);
  CHECK_THROWS_WITH_AS(load_profile(path, *toy()), doctest::Contains(path.c_str()), Error);
  for (const char* text : {"", "{", "[]", "{\"format\": \"something else\"}", "null"}) {
    std::ofstream(path) << text;
    CHECK_THROWS_WITH_AS(load_profile(path, *toy()), doctest::Contains("kvmerger calibrate"), Error);
  }
  budget::Profile other = profile;
  other.fingerprint = "0123";
  save_profile(other, path);
  CHECK_THROWS_WITH_AS(load_profile(path, *toy()), doctest::Contains("of another model (Toy, 0123)"), Error);
}

TEST_CASE("where profiles are kept") {
  const Cache cache;
  const std::string name = "/kvmerger/profiles/" + toy()->facts().fingerprint + ".json";
  CHECK(profile_path(*toy()) == cache.path().string() + name);
  ::setenv("XDG_CACHE_HOME", "", 1);
  ::setenv("HOME", "/somewhere", 1);
  CHECK(profile_path(*toy()) == "/somewhere/.cache" + name);
  ::unsetenv("XDG_CACHE_HOME");
  CHECK(profile_path(*toy()) == "/somewhere/.cache" + name);
}

TEST_CASE("the first use makes a profile from the built-in text, the next reads it") {
  const Cache cache;
  Compactor first = by_profile(), second = by_profile();
  provide_profile(first, toy(), tokenizer(), 1);
  const fs::path path = profile_path(*toy());
  REQUIRE(fs::exists(path));
  CHECK(cache.files() == 1);
  CHECK(load_profile(path, *toy()).made.find("built-in text") != std::string::npos);
  const std::string made = content(path);
  provide_profile(second, toy(), tokenizer(), 1);
  CHECK(content(path) == made);
  CHECK(rows_by(second) == rows_by(first));
  save_profile(hungry(4), path);
  provide_profile(second, toy(), tokenizer(), 1);
  CHECK(most(rows_by(second)) == 4);
  std::ofstream(path) << "damaged";
  CHECK_THROWS_WITH_AS(provide_profile(second, toy(), tokenizer(), 1), doctest::Contains("delete it"), Error);
}

TEST_CASE("a profile by path is read from there, and is not made when it is not there") {
  const Cache cache;
  Compactor compactor = by_profile();
  const std::string path = cache.path() / "mine.json";
  CHECK_THROWS_AS(provide_profile(compactor, toy(), tokenizer(), 1, path), Error);
  save_profile(hungry(1), path);
  provide_profile(compactor, toy(), tokenizer(), 1, path);
  CHECK(most(rows_by(compactor)) == 1);
  CHECK(cache.files() == 1);
}

TEST_CASE("methods without a profile make none") {
  const Cache cache;
  Compactor compactor(CompactionSpec{"h2o", "uniform", "ls", "35%"});
  provide_profile(compactor, toy(), tokenizer(), 1);
  CHECK(cache.files() == 0);
}

TEST_CASE("a cache folder that cannot be written is no reason to stop") {
  const Cache cache;
  for (const char* folder : {"/dev/null", "/proc/nonesuch"}) {
    ::setenv("XDG_CACHE_HOME", folder, 1);
    Compactor compactor = by_profile();
    CHECK_NOTHROW(provide_profile(compactor, toy(), tokenizer(), 1));
    CHECK(rows_by(compactor).size() == kAllHeads);
  }
  ::setenv("XDG_CACHE_HOME", ("/tmp/" + std::string(300, 'x')).c_str(), 1);  // no such name can be
  Compactor compactor = by_profile();
  CHECK_NOTHROW(provide_profile(compactor, toy(), tokenizer(), 1));
}

TEST_CASE("a compactor that needs a profile and has none says so") {
  CHECK_THROWS_WITH_AS(rows_by(by_profile()), doctest::Contains("needs a profile"), Error);
}

}  // namespace kvmerger::engine
