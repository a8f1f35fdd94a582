#include "eval/trace.h"

#include <doctest/doctest.h>

#include "eval/json_lines.h"
#include "eval/test_folder.h"

namespace kvmerger::eval {
namespace {

Json record(const char* method, int layer) {
  return Json::Object{{"task", "t"}, {"id", "i"}, {"method", method}, {"budget", "50%"}, {"layer", layer}};
}

}  // namespace

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

TEST_CASE("a trace made again takes the place of the one before") {
  const TestFolder folder;
  const std::string path = folder.path("traces.json");
  add_trace(path, record("h2o", 1));
  add_trace(path, record("paper", 2));
  add_trace(path, record("h2o", 3));
  const Json json = parse_json(read_file(path));
  const Json::Array& all = json.at("samples").array();
  REQUIRE(all.size() == 2);
  CHECK(all[0].at("layer").integer() == 2);
  CHECK(all[1].at("layer").integer() == 3);
  folder.write("traces.json", "[]");
  CHECK(error_of([&] { add_trace(path, record("h2o", 1)); }).starts_with(path + " holds no traces"));
}

}  // namespace kvmerger::eval
