#include "core/spec.h"

#include <doctest/doctest.h>

#include "core/error.h"

namespace kvmerger {
namespace {

using Options = std::vector<std::pair<std::string, std::string>>;

TEST_CASE("a spec is a name, or a name with options in the order written") {
  CHECK(parse_spec("h2o").name == "h2o");
  CHECK(parse_spec("h2o").options.empty());
  const Spec spec = parse_spec("kvmerger:epsilon=0.8,recent=64");
  CHECK(spec.name == "kvmerger");
  CHECK(spec.options == Options{{"epsilon", "0.8"}, {"recent", "64"}});
  CHECK(parse_spec("a:b=").options == Options{{"b", ""}});
  CHECK(parse_spec("a:b=c=d:e").options == Options{{"b", "c=d:e"}});
}

TEST_CASE("printing a spec gives back what was read") {
  for (const char* text : {"h2o", "kvmerger:epsilon=0.8,recent=64", "a:b=", "a:b=c=d"}) {
    CHECK(to_string(parse_spec(text)) == text);
  }
}

TEST_CASE("malformed specs are refused, with the spec in the message") {
  for (const char* text : {":a=1", "a:", "a:b", "a:=1", "a:b=1,", "a:b=1,,c=2", "a:b=1,c", "a:b=1,b=2"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(parse_spec(text), doctest::Contains(text), UsageError);
  }
  CHECK_THROWS_WITH_AS(parse_spec(""), doctest::Contains("a name is expected"), UsageError);
  CHECK_THROWS_WITH_AS(parse_spec("a:b=1,b=2"), doctest::Contains("twice"), UsageError);
}

}  // namespace
}  // namespace kvmerger
