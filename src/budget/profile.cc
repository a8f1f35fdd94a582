#include "budget/profile.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/error.h"

namespace kvmerger::budget {
namespace {

constexpr const char* kFormat = "kvmerger profile 1";
constexpr float kLeastScore = 1e-9F;  // scores are held above: their logarithms are needed

double rounded(float value) {  // to four digits: the file stays small
  const double scale = std::pow(10.0, 3.0 - std::floor(std::log10(double{value})));
  return std::round(double{value} * scale) / scale;
}

std::array<float, kQuantiles> read_quantiles(const Json& json) {
  std::array<float, kQuantiles> entries{};
  if (json.array().size() != kQuantiles) throw Error(cat("a head of the profile has not ", kQuantiles, " scores"));
  for (uint32_t index = 0; index < kQuantiles; ++index) {
    entries[index] = static_cast<float>(json.array()[index].number());
    const bool falls = index == 0 || entries[index] <= entries[index - 1];
    if (!(entries[index] > 0.0F && entries[index] <= 1.0F && falls)) {
      throw Error("the scores of a head of the profile do not fall from at most 1 to above 0");
    }
  }
  return entries;
}

}  // namespace

double top_share(uint32_t index) { return std::pow(double{1.0 * index} / (kQuantiles - 1), 2); }

std::array<float, kQuantiles> quantiles_of(std::vector<float> scores) {
  KVM_CHECK(!scores.empty());
  std::sort(scores.begin(), scores.end(), std::greater<>());
  std::array<float, kQuantiles> entries{};
  for (uint32_t index = 0; index < kQuantiles; ++index) {
    const double at = top_share(index) * static_cast<double>(scores.size() - 1);
    entries[index] = std::clamp(scores[static_cast<size_t>(std::llround(at))], kLeastScore, 1.0F);
  }
  return entries;
}

double Profile::share_above(uint32_t head, double threshold) const {
  const std::array<float, kQuantiles>& entries = quantiles[head];
  if (double{entries[0]} <= threshold) return 0.0;
  for (uint32_t index = 1; index < kQuantiles; ++index) {
    if (double{entries[index]} > threshold) continue;
    const double above = std::log(double{entries[index - 1]}), below = std::log(double{entries[index]});
    const double part = (above - std::log(threshold)) / (above - below);
    return top_share(index - 1) + part * (top_share(index) - top_share(index - 1));
  }
  return 1.0;
}

Json to_json(const Profile& profile) {
  Json::Array heads;
  for (const auto& entries : profile.quantiles) {
    Json::Array scores;
    for (const float score : entries) scores.push_back(rounded(score));
    heads.push_back(std::move(scores));
  }
  return Json::Object{{"format", kFormat},         {"model", profile.fingerprint}, {"name", profile.name},
                      {"made", profile.made},      {"layers", profile.layers},     {"heads", profile.heads},
                      {"scores", std::move(heads)}};
}

Profile profile_from_json(const Json& json) {
  if (json.at("format").text() != kFormat) throw Error(cat("its format is not '", kFormat, "'"));
  Profile profile;
  profile.fingerprint = json.at("model").text();
  profile.name = json.at("name").text();
  profile.made = json.at("made").text();
  profile.layers = static_cast<uint32_t>(json.at("layers").integer());
  profile.heads = static_cast<uint32_t>(json.at("heads").integer());
  for (const Json& entries : json.at("scores").array()) profile.quantiles.push_back(read_quantiles(entries));
  if (profile.quantiles.size() != size_t{profile.layers} * profile.heads) {
    throw Error(cat("it has the scores of ", profile.quantiles.size(), " heads, not of ", profile.layers, " x ",
                    profile.heads));
  }
  return profile;
}

}  // namespace kvmerger::budget
