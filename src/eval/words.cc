#include "eval/words.h"

#include <cstdio>
#include <iterator>
#include <numeric>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

constexpr const char* kAdjectives[] = {
    "able",   "ancient", "bitter", "blue",  "bold",   "brave",  "brief",  "bright", "broad",  "calm",  "careful",
    "cheap",  "clean",   "clever", "cold",  "common", "cruel",  "damp",   "dark",   "deep",   "dry",   "dusty",
    "eager",  "early",   "empty",  "exact", "faint",  "famous", "fast",   "fierce", "flat",   "fresh", "gentle",
    "golden", "grand",   "green",  "happy", "heavy",  "hollow", "honest", "humble", "idle",   "jolly", "kind",
    "large",  "late",    "lazy",   "light", "lonely", "loud",   "lucky",  "modern", "narrow", "noble", "odd",
    "plain",  "proud",   "quick",  "quiet", "rapid",  "rough",  "silent", "simple", "tiny"};
constexpr const char* kNouns[] = {
    "anchor", "apple",  "arrow",   "basket", "beach",   "bell",   "bird",   "boat",   "book",   "bottle", "branch",
    "bread",  "bridge", "bucket",  "button", "camera",  "candle", "carpet", "castle", "chair",  "cherry", "clock",
    "cloud",  "coat",   "coin",    "corner", "cotton",  "crown",  "dancer", "desk",   "doctor", "door",   "dragon",
    "drum",   "eagle",  "engine",  "farmer", "feather", "fence",  "field",  "finger", "flag",   "flower", "forest",
    "garden", "garlic", "glass",   "glove",  "hammer",  "harbor", "hat",    "horse",  "house",  "island", "jacket",
    "kettle", "key",    "ladder",  "lake",   "lamp",    "lemon",  "letter", "lion",   "market", "mirror", "mountain",
    "needle", "ocean",  "orange",  "paper",  "pencil",  "piano",  "pillow", "planet", "pocket", "potato", "queen",
    "rabbit", "river",  "road",    "rocket", "saddle",  "sailor", "school", "shadow", "silver", "spoon",  "stone",
    "street", "table",  "teacher", "tiger",  "tower",   "train",  "valley", "window"};
static_assert(std::size(kAdjectives) * std::size(kNouns) == kWordPairs);

}  // namespace

std::vector<std::string> word_pairs(Rng& rng, uint32_t count) {
  KVM_CHECK(count <= kWordPairs);
  std::vector<uint32_t> order(kWordPairs);
  std::iota(order.begin(), order.end(), 0U);
  shuffle(order, rng);
  std::vector<std::string> words;
  for (uint32_t index = 0; index < count; ++index) {
    words.push_back(cat(kAdjectives[order[index] / std::size(kNouns)], "-", kNouns[order[index] % std::size(kNouns)]));
  }
  return words;
}

std::string seven_digits(Rng& rng) { return std::to_string(1000000 + rng.below(9000000)); }

std::string uuid(Rng& rng) {
  const uint64_t high = rng.next(), low = rng.next();
  char text[40];
  std::snprintf(text, sizeof text, "%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(high >> 32),
                static_cast<unsigned>(high >> 16 & 0xFFFF), static_cast<unsigned>(high & 0xFFF),
                static_cast<unsigned>(0x8000 | (low >> 48 & 0x3FFF)),
                static_cast<unsigned long long>(low & 0xFFFFFFFFFFFF));
  return text;
}

std::string letters(Rng& rng, char first, uint32_t count) {
  std::string text;
  for (uint32_t index = 0; index < count; ++index) text += static_cast<char>(first + static_cast<int>(rng.below(26)));
  return text;
}

}  // namespace kvmerger::eval
