#include <doctest/doctest.h>

#include "core/error.h"
#include "fit/fit.h"

namespace kvmerger::fit {
namespace {

TEST_CASE("fit none: the plan comes back as it was") {
  const std::vector<float> rows(6 * 2, 1.0F), mass(6, 1.0F), bias{0, 1, 2, 3, 4, 5};
  const std::vector<int32_t> pos{0, 1, 2, 3, 4, 5};
  const kv::HeadView head{{rows.data(), 6, 2}, {rows.data(), 6, 2}, pos, mass, bias, {}, {}, {}, {}};
  const kv::LayerView view{0, 1, {head}};
  const std::vector<uint32_t> kept{1, 3, 5};
  const auto none = make("none");
  CHECK(none->queries() == 0);
  const kv::LayerPlan plan = none->fit(view, {kv::keep_rows(head, kept)}).plan;
  REQUIRE(plan.size() == 1);
  CHECK(plan[0].pivot == kept);
  CHECK(plan[0].bias == std::vector<float>{1, 3, 5});
  CHECK(plan[0].key.begin == std::vector<uint32_t>{0, 1, 2, 3});
  CHECK(plan[0].value.source[1].row == 3);
  CHECK(plan[0].dense.empty());
}

TEST_CASE("the table of fits: unknown names and keys are refused") {
  for (const Entry& entry : all()) CHECK_THROWS_WITH_AS(make("nonesuch"), doctest::Contains(entry.name), UsageError);
  CHECK_THROWS_AS(make("none:nonesuch=1"), UsageError);
}

}  // namespace
}  // namespace kvmerger::fit
