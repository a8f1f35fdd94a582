#include "eval/trace.h"

#include <doctest/doctest.h>

#include "eval/test_folder.h"

namespace kvmerger::eval {

TEST_CASE("similarity is the cosine of every pair of the first keys") {
  const std::vector<float> keys{1, 0, 0, 2, 3, 3, 0, 0};      // four keys of two numbers, the last of no direction
  const std::vector<double> expected{1,     0,     0.707, 0,  //
                                     0,     1,     0.707, 0,  //
                                     0.707, 0.707, 1,     0,  //
                                     0,     0,     0,     0};
  CHECK(similarity(keys, 2) == expected);
  CHECK(similarity(std::vector<float>(2 * 300, 1.0F), 2).size() == 256 * 256);
}

TEST_CASE("a row's sources are those of its key and its value") {
  kv::HeadPlan plan;
  const kv::Source both[] = {{0, 0.5F}, {1, 0.5F}};
  plan.key.add(both);
  plan.key.add({2, 1.0F});
  plan.value.add({1, 1.0F});
  const kv::Source values[] = {{2, 1.0F}, {3, 0.2F}};  // folded into the value only, as CaM does
  plan.value.add(values);
  plan.pivot = {1, 2};
  CHECK(sources(plan) == std::vector<std::vector<uint32_t>>{{0, 1}, {2, 3}});
}

TEST_CASE("a file of traces is told from another, and a line cut off in writing is left out") {
  const TestFolder folder;
  CHECK(read_traces(folder.path("none")).file.whole == 0);
  const std::string line = R"({"task":"t","id":"i","method":"h2o","budget":"50%","similarity":[]})"
                           "\n";
  const TracesRead cut = read_traces(folder.write("traces.jsonl", line + line.substr(0, 12)));
  CHECK(cut.file.whole == line.size());
  CHECK(cut.file.damaged());
  CHECK(cut.keys == std::set<std::array<std::string, 4>>{{"t", "i", "h2o", "50%"}});
  const std::string other = folder.write("other.jsonl", "{\"a\":1}\n");
  CHECK(error_of([&] { read_traces(other); }).starts_with(other + ":1: this is no line of results"));
}

}  // namespace kvmerger::eval
