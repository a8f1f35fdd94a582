// Adjacent similarities and runs, by hand-made keys.
#include "policy/links.h"

#include <doctest/doctest.h>

#include <cmath>

#include "policy/test_heads.h"

namespace kvmerger::policy {
namespace {

using Floats = std::vector<float>;
using Flags = std::vector<uint8_t>;

Floats cosines_of(const Floats& keys, uint32_t dim, const Flags& alone) {
  return adjacent_cosines({keys.data(), static_cast<uint32_t>(keys.size()) / dim, dim}, alone);
}

TEST_CASE("cosines of neighbours") {
  const Floats keys{3, 4, 6, 8, 4, -3, -8, 6, 0, 0, 1, 1, 1, 0};
  const Floats found = cosines_of(keys, 2, Flags(7));
  const Floats expected{1.0F, 0.0F, -1.0F, 0.0F, 0.0F, std::sqrt(0.5F)};
  REQUIRE(found.size() == expected.size());
  for (size_t link = 0; link < found.size(); ++link)
    CHECK(found[link] == doctest::Approx(expected[link]).epsilon(1e-7));
  CHECK(cosines_of({1, 2}, 2, Flags(1)).empty());
}

TEST_CASE("rows that stay alone have no links") {
  const Floats keys{1, 1, 1, 1, 1};
  CHECK(cosines_of(keys, 1, {0, 1, 0, 0, 0}) == Floats{kNoLink, kNoLink, 1, 1});
  CHECK(cosines_of(keys, 1, {1, 0, 0, 0, 1}) == Floats{kNoLink, 1, 1, kNoLink});
}

TEST_CASE("equal keys have cosine 1 exactly, so that none is preferred") {
  Rng rng(1);
  for (uint32_t times = 0; times < 200; ++times) {
    Floats keys = random_normals(rng, 24);
    keys.insert(keys.end(), keys.begin(), keys.begin() + 24);
    CHECK(cosines_of(keys, 24, Flags(2)) == Floats{1.0F});
  }
}

TEST_CASE("links by threshold and by count") {
  const Floats cosines{0.5F, 0.9F, kNoLink, 0.5F, -1.0F};
  CHECK(links_above(cosines, 0.5) == Flags{0, 1, 0, 0, 0});
  CHECK(links_above(cosines, -1.01) == Flags{1, 1, 0, 1, 1});
  CHECK(strongest_links(cosines, 0) == Flags{0, 0, 0, 0, 0});
  CHECK(strongest_links(cosines, 2) == Flags{1, 1, 0, 0, 0});
  CHECK(strongest_links(cosines, 3) == Flags{1, 1, 0, 1, 0});
  CHECK(strongest_links(cosines, 5) == Flags{1, 1, 0, 1, 1});
}

TEST_CASE("runs begin where a link is missing") {
  CHECK(run_begins(Flags{}) == std::vector<uint32_t>{0, 1});
  CHECK(run_begins(Flags{1, 1}) == std::vector<uint32_t>{0, 3});
  CHECK(run_begins(Flags{0, 1, 1, 0}) == std::vector<uint32_t>{0, 1, 4, 5});
}

}  // namespace
}  // namespace kvmerger::policy
