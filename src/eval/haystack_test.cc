#include "eval/haystack.h"

#include <doctest/doctest.h>

#include "eval/test_folder.h"

namespace kvmerger::eval {

TEST_CASE("sentences keep the white space behind them, and are the text together") {
  const std::string text = "One. Two\nis longer!  \"Three?\" she said.\nFour";
  const auto sentences = split_sentences(text);
  const std::vector<std::string_view> expected{"One. ", "Two\nis longer!  ", "\"Three?\" ", "she said.\n", "Four"};
  CHECK(sentences == expected);
  CHECK(split_sentences("").empty());
  CHECK(split_sentences("no end ") == std::vector<std::string_view>{"no end "});
}

TEST_CASE("what is hidden stands before the first piece at or behind its depth") {
  const std::vector<std::string_view> pieces{"aaaa", "bb", "cc"};  // they begin at 0, 0.5 and 0.75 of the text
  CHECK(hide(pieces, {{"X", 0}}) == "Xaaaabbcc");
  CHECK(hide(pieces, {{"X", 0.5}}) == "aaaaXbbcc");
  CHECK(hide(pieces, {{"X", 0.51}}) == "aaaabbXcc");
  CHECK(hide(pieces, {{"X", 1}}) == "aaaabbccX");
  CHECK(hide(pieces, {{"X", 1}, {"Y", 0.1}, {"Z", 0.1}}) == "aaaaYZbbccX");
  CHECK(hide({}, {{"X", 0.3}}) == "X");
}

TEST_CASE("a haystack begins again at its end") {
  const Haystack haystack(std::vector<std::string>{"A. B. C. ", "D. "});
  const std::vector<std::string_view> expected{"B. ", "C. ", "A. ", "B. "};
  CHECK(haystack.sentences(0, 0.34, 4) == expected);
  CHECK(haystack.sentences(1, 0.9, 2) == std::vector<std::string_view>{"D. ", "D. "});
  CHECK(haystack.text(3) == "D. ");
}

TEST_CASE("texts come from a file, a folder, or are built in") {
  const TestFolder folder;
  folder.write("b.txt", "Second.");
  folder.write("a.txt", "First.");
  folder.write("c.md", "Not this.");
  const Haystack all = read_haystack("", folder.path(""));
  REQUIRE(all.texts() == 2);
  CHECK(all.text(0) == "First.");
  const Haystack one = read_haystack(folder.path("c.md"), folder.path(""));
  REQUIRE(one.texts() == 1);
  CHECK(one.text(0) == "Not this.");
  const Haystack built_in = read_haystack("", folder.path("none"));
  CHECK(built_in.sentences(0, 0, 30).back() != built_in.sentences(0, 0, 1).front());
  CHECK_THROWS_AS(read_haystack(folder.path("none.txt"), ""), Error);
  CHECK(error_of([&] { read_haystack("", folder.path("c.md")); }).starts_with("cannot read the folder "));
  CHECK(error_of([&] { read_haystack(folder.write("e.txt", " \n"), ""); }).ends_with("is empty"));
}

}  // namespace kvmerger::eval
