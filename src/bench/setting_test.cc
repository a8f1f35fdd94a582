#include "bench/setting.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/error.h"

namespace kvmerger::bench {
namespace {

using Texts = std::vector<std::string>;

Texts described(const MethodLists& lists) {
  Texts texts;
  for (const Method& method : all_methods(lists)) {
    const engine::CompactionSpec& spec = method.spec;
    texts.push_back(
        cat(method.name, "|", spec.policy, "|", spec.heads, "|", spec.fit, "|", spec.budget, "|", method.when));
  }
  return texts;
}

MethodLists lists(const Texts& methods, const Texts& budgets) {
  MethodLists lists;
  lists.methods = methods;
  lists.budgets = budgets;
  return lists;
}

}  // namespace

TEST_CASE("every method meets every budget, and the full cache comes once") {
  CHECK(described(lists({"h2o", "none", "snapkv+ada"}, {"50%", "64"})) ==
        Texts{"h2o|h2o|uniform|none|50%|prefill", "h2o|h2o|uniform|none|64|prefill", "none|none|uniform|none||prefill",
              "snapkv+ada|snapkv|ada|none|50%|prefill", "snapkv+ada|snapkv|ada|none|64|prefill"});
  CHECK(described({}) == Texts{"none|none|uniform|none||prefill"});
  CHECK(described(lists({}, {"35%"})) == Texts{"default|expected_attention|profile|ls|35%|prefill"});
  CHECK(described(lists({"h2o", "h2o"}, {"50%", "50%"})).size() == 1);
}

TEST_CASE("heads, fits and moments take the place of the method's, in every combination") {
  MethodLists asked = lists({"h2o", "none"}, {"50%"});
  asked.heads = {"uniform", "pyramid"};
  asked.fits = {"none", "ls"};
  asked.whens = {"prefill", "stream+decode"};
  const Texts all = described(asked);
  CHECK(all.size() == 2 * 2 * 2 + 1);
  CHECK(all[0] == "h2o|h2o|uniform|none|50%|prefill");
  CHECK(all[7] == "h2o|h2o|pyramid|ls|50%|stream+decode");
  CHECK(all[8] == "none|none|uniform|none||prefill");
}

TEST_CASE("methods that do not exist or do not go together") {
  CHECK_THROWS_AS(all_methods(lists({"magic"}, {"50%"})), UsageError);
  CHECK_THROWS_AS(all_methods(lists({"h2o"}, {})), UsageError);
  CHECK_THROWS_AS(all_methods(lists({"h2o"}, {"0%"})), UsageError);
  MethodLists streaming = lists({"expected_attention"}, {"auto:0.1"});
  streaming.whens = {"stream"};
  CHECK_THROWS_AS(all_methods(streaming), UsageError);
  MethodLists full = lists({"none"}, {});
  for (const char* when : {"never", "stream", "prefill+decode"}) {
    full.whens = {when};
    CHECK_THROWS_AS(all_methods(full), UsageError);
  }
  CHECK_THROWS_AS(all_methods(lists({"none"}, {"50%"})), UsageError);
}

TEST_CASE("settings are every combination, tests are called as in llama-bench") {
  using enum kernels::RowType;
  const std::vector<Setting> all =
      all_settings({.threads = {1, 2}, .batches = {64, 512}, .key_types = {kF16, kF32}, .value_types = {kF16}});
  REQUIRE(all.size() == 8);
  CHECK(all[1].key_type == kF32);
  CHECK(all[1].value_type == kF16);
  CHECK(all[2].batch == 512);
  CHECK(all[4].threads == 2);
  CHECK(name_of({.prompt = 512, .generate = 0, .depth = 0}) == "pp512");
  CHECK(name_of({.prompt = 0, .generate = 128, .depth = 8192}) == "tg128 @ d8192");
}

}  // namespace kvmerger::bench
