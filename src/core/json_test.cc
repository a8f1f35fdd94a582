#include "core/json.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/error.h"

namespace kvmerger {
namespace {

std::string line(const Json& json) { return dump_json(json, -1); }

TEST_CASE("values are printed as JSON, members in the order of insertion") {
  CHECK(line({}) == "null");
  CHECK(line(true) == "true");
  CHECK(line(-7) == "-7");
  CHECK(line(4294967295U) == "4294967295");
  CHECK(line(0.5) == "0.5");
  CHECK(line("a\"b\n") == "\"a\\\"b\\n\"");
  CHECK(line(Json::Array{}) == "[]");
  CHECK(line(Json::Object{{"z", 1}, {"a", Json::Array{1, "x", {}}}}) == R"({"z":1,"a":[1,"x",null]})");
  CHECK(dump_json(Json::Object{{"a", 1}}) == "{\n  \"a\": 1\n}");
}

TEST_CASE("what JSON cannot hold: NaN and infinity become null, invalid UTF-8 becomes U+FFFD") {
  CHECK(line(std::nan("")) == "null");
  CHECK(line(std::numeric_limits<double>::infinity()) == "null");
  CHECK(line(std::string("a\xff") + "b") ==
        "\"a\xEF\xBF\xBD"
        "b\"");
  CHECK(line("gr\xC3\xBC\xC3\x9F") == "\"gr\xC3\xBC\xC3\x9F\"");
}

TEST_CASE("text comes back as it went") {
  for (const char* text : {"null", "true", "[]", "{}", "[1,-2,0.25,\"x\",[],{\"b\":1,\"a\":2}]", "9223372036854775807",
                           "-9223372036854775808", "\"\\u0000\"", "1e300"}) {
    CAPTURE(text);
    CHECK(line(parse_json(line(parse_json(text)))) == line(parse_json(text)));
  }
  CHECK(line(parse_json(R"( {"b" : [1, 2.5, "x\ty"], "a" : null} )")) == R"({"b":[1,2.5,"x\ty"],"a":null})");
  CHECK(parse_json("\"\\u00fc\"").text() == "\xC3\xBC");
}

TEST_CASE("whole numbers keep 63 bits, larger ones become reals instead of negative") {
  CHECK(parse_json("9223372036854775807").integer() == INT64_MAX);
  CHECK(parse_json("18446744073709551615").number() == doctest::Approx(1.8446744073709552e19));
  CHECK(Json(UINT64_MAX).number() == doctest::Approx(1.8446744073709552e19));
  CHECK(Json(uint64_t{1} << 62).integer() == int64_t{1} << 62);
}

TEST_CASE("asking for a member or a kind that is not there") {
  const Json json = parse_json(R"({"name": "x", "count": 3, "share": 0.5, "on": true, "list": [1]})");
  CHECK(json.at("name").text() == "x");
  CHECK(json.at("count").integer() == 3);
  CHECK(json.at("count").number() == 3.0);
  CHECK(json.at("share").number() == 0.5);
  CHECK(json.at("on").boolean());
  CHECK(json.at("list").array().size() == 1);
  CHECK_THROWS_WITH_AS(json.at("size"), doctest::Contains("'size'"), Error);
  CHECK_THROWS_WITH_AS(json.at("name").integer(), doctest::Contains("a whole number expected"), Error);
  CHECK_THROWS_AS(json.at("share").integer(), Error);
  CHECK_THROWS_AS(json.at("count").text(), Error);
  CHECK_THROWS_AS(json.at("count").boolean(), Error);
  CHECK_THROWS_AS(json.at("count").array(), Error);
  CHECK_THROWS_AS(json.at("name").number(), Error);
  CHECK_THROWS_AS(json.at("list").at("x"), Error);
}

TEST_CASE("malformed text is refused with the position") {
  for (const char* text : {"", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "'x'", "\"\xff\"", "[1e999]"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_json(text), Error);
  }
  CHECK_THROWS_WITH_AS(parse_json("{\"a\" 1}"), doctest::Contains("column 6"), Error);
}

TEST_CASE("text nested too deeply is refused, not followed") {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK_NOTHROW(parse_json(nested(100)));
  CHECK_THROWS_WITH_AS(parse_json(nested(100000)), doctest::Contains("nested"), Error);
}

}  // namespace
}  // namespace kvmerger
