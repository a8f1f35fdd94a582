// Options and tables: reading, refusing, listing.
#include "core/options.h"

#include <doctest/doctest.h>

#include <memory>

#include "core/error.h"
#include "core/table.h"

namespace kvmerger {
namespace {

struct Sample {
  double real = 0.5;
  std::optional<double> maybe, set = 5.0;
  uint32_t whole = 4;
  bool flag = false;
  std::string choice = "sum";

  void options(OptionVisitor& visitor) {
    visitor.real("real", real, -1.5, 2, "a number");
    visitor.real_or_auto("maybe", maybe, 0, 10, "a number or not");
    visitor.real_or_auto("set", set, 0, 10, "a number by default");
    visitor.whole("whole", whole, 1, UINT32_MAX, "a count");
    visitor.flag("flag", flag, "a switch");
    visitor.choice("choice", choice, {"sum", "mean"}, "one of two");
  }
};

Sample read(const std::string& options) {
  Sample sample;
  const Spec spec = parse_spec(options.empty() ? "sample" : "sample:" + options);
  read_options(spec, [&](OptionVisitor& visitor) { sample.options(visitor); });
  return sample;
}

TEST_CASE("what is not given keeps its default") {
  const Sample sample = read("");
  CHECK(sample.real == 0.5);
  CHECK(!sample.maybe);
  CHECK(sample.set == 5.0);
  CHECK(sample.whole == 4);
  CHECK(!sample.flag);
  CHECK(sample.choice == "sum");
}

TEST_CASE("every kind of option is read, in any order, up to the ends of its range") {
  const Sample sample = read("choice=mean,flag=on,whole=4294967295,set=auto,maybe=0,real=-1.5");
  CHECK(sample.real == -1.5);
  CHECK(sample.maybe == 0.0);
  CHECK(!sample.set);
  CHECK(sample.whole == 4294967295);
  CHECK(sample.flag);
  CHECK(sample.choice == "mean");
  CHECK(read("real=2").real == 2.0);
  CHECK(read("real=1e-3").real == 1e-3);
  CHECK(!read("flag=off").flag);
}

TEST_CASE("a bad value is refused with its range") {
  const auto refused = [](const std::string& option, const char* range) {
    CAPTURE(option);
    CHECK_THROWS_WITH_AS(read(option), doctest::Contains(range), UsageError);
    CHECK_THROWS_WITH_AS(read(option), doctest::Contains(option.c_str()), UsageError);
  };
  for (const char* value : {"", "x", "2.1", "-1.6", "1x", "nan", "inf", " 1", "+1", "auto"}) {
    refused(cat("real=", value), "-1.5 .. 2");
  }
  for (const char* value : {"", "none", "-1", "11", "nan", "Auto"}) refused(cat("maybe=", value), "0 .. 10");
  for (const char* value : {"0", "-1", "1.5", "4294967296", "99999999999999999999", "1e3", ""}) {
    refused(cat("whole=", value), "1 .. 4294967295");
  }
  for (const char* value : {"", "true", "1", "ON"}) refused(cat("flag=", value), "on or off");
  for (const char* value : {"", "max", "Sum"}) refused(cat("choice=", value), "sum or mean");
}

TEST_CASE("an unknown key is refused with the known ones") {
  CHECK_THROWS_WITH_AS(read("reel=1"), doctest::Contains("'sample' has no option 'reel'"), UsageError);
  CHECK_THROWS_WITH_AS(read("reel=1"), doctest::Contains("real, maybe, set, whole, flag, choice"), UsageError);
  const auto none = [](OptionVisitor&) {};
  CHECK_THROWS_WITH_AS(read_options(parse_spec("plain:a=1"), none), doctest::Contains("it has no options"), UsageError);
  CHECK_NOTHROW(read_options(parse_spec("plain"), none));
}

TEST_CASE("options are listed with value, range and help") {
  Sample sample = read("maybe=2.5,flag=on");
  const auto options = describe_options([&](OptionVisitor& visitor) { sample.options(visitor); });
  REQUIRE(options.size() == 6);
  const auto check = [&](size_t at, const char* key, const char* value, const char* range, const char* help) {
    CHECK(options[at].key == key);
    CHECK(options[at].value == value);
    CHECK(options[at].range == range);
    CHECK(options[at].help == help);
  };
  check(0, "real", "0.5", "-1.5 .. 2", "a number");
  check(1, "maybe", "2.5", "auto or 0 .. 10", "a number or not");
  check(2, "set", "5", "auto or 0 .. 10", "a number by default");
  check(3, "whole", "4", "1 .. 4294967295", "a count");
  check(4, "flag", "on", "on | off", "a switch");
  check(5, "choice", "sum", "sum | mean", "one of two");
  sample.maybe.reset();
  CHECK(describe_options([&](OptionVisitor& visitor) { sample.options(visitor); })[1].value == "auto");
}

struct Row {
  const char* name;
  std::unique_ptr<Sample> (*make)();
};

TEST_CASE("a row of a table by its spec") {
  const auto make = [] { return std::make_unique<Sample>(); };
  const Row rows[] = {{"first", +make}, {"second", +make}};
  const std::span<const Row> table(rows);
  CHECK(make_from_table("thing", table, "second")->whole == 4);
  CHECK(make_from_table("thing", table, "second:whole=9")->whole == 9);
  CHECK_THROWS_WITH_AS(make_from_table("thing", table, "third"),
                       doctest::Contains("there is no thing 'third'; known: first, second"), UsageError);
  CHECK_THROWS_AS(make_from_table("thing", table, "first:nonesuch=1"), UsageError);
  CHECK_THROWS_AS(make_from_table("thing", table, ""), UsageError);
}

}  // namespace
}  // namespace kvmerger
