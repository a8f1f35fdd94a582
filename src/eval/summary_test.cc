#include "eval/summary.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "eval/plot.h"
#include "eval/svg.h"
#include "eval/table.h"

namespace kvmerger::eval {
namespace {

Row row(const std::string& text, const std::string& method, const std::string& budget, double kl,
        uint32_t context = 2048) {
  Row row;
  row.key = {
      text, "Model", "0123", "f16", "f32", method, {method, "uniform", "none", budget}, {context, 128, 5, 20, 0}};
  row.rows_share = budget.empty() ? 1.0 : std::stod(budget) / 100;
  row.bytes = 3 << 20;
  row.kl = kl;
  row.dnll = -kl;
  row.top1 = 0.9;
  row.recall_dnll = 10 * kl;
  row.lines = {0.25, 0.5, 1.5};
  return row;
}

// Tags are closed in order, attributes are quoted, no bare < or & in text: enough to find what would not parse.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = 0; (at = xml.find('<', at)) != std::string::npos;) {
    const size_t end = xml.find('>', at), next = xml.find('<', at + 1);
    if (end == std::string::npos || (next != std::string::npos && next < end)) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(tag[0] == '/' ? 1 : 0, tag.find_first_of(" \n", 1) - (tag[0] == '/' ? 1 : 0));
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return false;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != name) return false;
      open.pop_back();
    } else if (tag[0] != '?' && tag.back() != '/') {
      open.push_back(name);
    }
    at = end;
  }
  return open.empty();
}

size_t count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

}  // namespace

TEST_CASE("means and standard errors by hand") {
  const Mean three = mean_of({1, 2, 6});  // deviations -2 -1 3: variance 14 / 2, error sqrt(7 / 3)
  CHECK(three.mean == doctest::Approx(3));
  CHECK(three.error == doctest::Approx(std::sqrt(7.0 / 3)));
  CHECK(three.count == 3);
  CHECK(mean_of({4}).mean == 4);
  CHECK(std::isnan(mean_of({4}).error));
  CHECK(std::isnan(mean_of({}).mean));
}

TEST_CASE("rows are put together over texts, large budgets and good methods first") {
  const std::vector<Section> sections =
      summarise({row("a", "h2o", "20%", 0.3), row("a", "h2o", "50%", 0.1), row("a", "tova", "50%", 0.05),
                 row("b", "h2o", "50%", 0.2), row("b", "tova", "50%", 0.07), row("a", "none", "", 0),
                 row("a", "h2o", "50%", 0.4, 512)});
  REQUIRE(sections.size() == 2);
  CHECK(sections[0].key().sizes.context == 512);
  const std::vector<Summary>& summaries = sections[1].summaries;
  REQUIRE(summaries.size() == 4);
  CHECK(summaries[0].key.method == "none");
  CHECK(summaries[1].key.method == "tova");
  CHECK(summaries[2].key.method == "h2o");
  CHECK(summaries[2].key.spec.budget == "50%");
  CHECK(summaries[3].key.spec.budget == "20%");
  CHECK(summaries[2].texts == std::vector<std::string>{"a", "b"});
  CHECK(summaries[2].kl.mean == doctest::Approx(0.15));
  CHECK(summaries[2].kl.error == doctest::Approx(0.05));  // sqrt((.05^2 + .05^2) / 1 / 2)
  CHECK(summaries[2].dnll.mean == doctest::Approx(-0.15));
}

TEST_CASE("the table has a line for every summary, with errors where there are two texts") {
  std::vector<Row> rows{row("a", "h2o", "50%", 0.1), row("b", "h2o", "50%", 0.2), row("a", "tova:x=a|b", "50%", 0.5)};
  const std::string table = table_markdown(summarise(rows));
  CHECK(table.find("### Model, context 2048") != std::string::npos);
  CHECK(table.find("| 50% | h2o | h2o+uniform+none | 50.0 % | 3.0 MiB | 0.15000 +- 0.05000 | -0.1500 +- 0.0500 |") !=
        std::string::npos);
  CHECK(table.find("| 0.25 +- 0.00 (0.50) | 1.500 +- 0.000 |") != std::string::npos);
  CHECK(table.find("| 0.50000 | -0.5000 |") != std::string::npos);
  CHECK(table.find("tova:x=a\\|b") != std::string::npos);
  rows[0].key.sizes.questions = 0;
  rows[0].lines.reset();
  CHECK(table_markdown(summarise({rows[0]})).find("| - | - |") != std::string::npos);
}

TEST_CASE("the plot is well-formed, with a line and a legend entry for each method in two panels") {
  std::vector<Row> rows;
  for (const char* text : {"a", "b"}) {
    for (const char* method : {"h2o", "tova<&\">", "snapkv"}) {
      for (const char* budget : {"50%", "20%", "10%"}) rows.push_back(row(text, method, budget, 2 / std::stod(budget)));
    }
    rows.push_back(row(text, "none", "", 0));
  }
  const std::string svg = plot_svg(summarise(rows));
  CHECK(well_formed(svg));
  CHECK(count(svg, "<polyline") == 2 * 3);
  CHECK(count(svg, "tova&lt;&amp;&quot;&gt;</text>") == 1);
  CHECK(count(svg, ">none</text>") == 0);
  CHECK(count(svg, "rows kept</text>") == 2);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
  CHECK_FALSE(well_formed("<a><b></a></b>"));
  CHECK_FALSE(well_formed("<a>1 < 2</a>"));
}

TEST_CASE("a plot of odd rows: nothing to draw, no loss at all, numbers that are none") {
  for (const double kl : {0.0, double{NAN}, -1e-12, 1e3}) {
    const std::string svg = plot_svg(summarise({row("a", "h2o", "50%", kl), row("a", "none", "", 0)}));
    CHECK(well_formed(svg));
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);
  }
  CHECK(well_formed(plot_svg(summarise({row("a", "none", "", 0)}))));
  CHECK(well_formed(plot_svg({})));
}

}  // namespace kvmerger::eval
