#include "eval/generators.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "eval/json_lines.h"
#include "eval/sources.h"

namespace kvmerger::eval {
namespace {

constexpr std::string_view kPrefix = "generate:";
constexpr uint32_t kMostUnits = 1U << 24;

constexpr Maker kMakers[] = {
    {"needle", &make_needle}, {"passkey", &make_passkey},  {"niah", &make_niah},
    {"vt", &make_variables},  {"cwe", &make_common_words}, {"fwe", &make_frequent_words},
};

const Maker& maker_of(const TaskFile& task) {
  const std::string name = task.format.substr(kPrefix.size());
  const auto found = std::ranges::find_if(kMakers, [&](const Maker& maker) { return name == maker.name; });
  if (found != std::end(kMakers)) return *found;
  std::string names;
  for (const Maker& maker : kMakers) names += cat(maker.name, ", ");
  throw Error(cat("the task ", task.name, " asks to generate '", name, "'; known are ", names, "perplexity"));
}

// The most units with which `fits` holds, which it does with fewer then; 0: with none.
uint32_t most_units(const std::function<bool(uint32_t)>& fits) {
  uint32_t enough = 0, above = 1;
  while (above <= kMostUnits && fits(above)) {
    enough = above;
    above *= 2;
  }
  while (above - enough > 1) {
    const uint32_t middle = enough + (above - enough) / 2;
    (fits(middle) ? enough : above) = middle;
  }
  return enough;
}

uint64_t seed_of(const TaskFile& task, const Cell& cell, uint32_t seed) {
  const std::string key = cat(task.name, '\n', cell.id(), '\n', seed);
  Hasher hasher;
  hasher.add(key.data(), key.size());
  return hasher.digest64();
}

}  // namespace

Error TaskOptions::wrong(const char* key, const char* what) const {
  return Error(cat("the task ", task_.name, ": its option '", key, "' is not ", what));
}

uint32_t TaskOptions::count(const char* key, uint32_t otherwise) const {
  const Json* value = find_member(task_.options, key);
  if (!value) return otherwise;
  const int64_t* number = value->get<int64_t>();
  if (!number || *number < 1 || *number > INT32_MAX) throw wrong(key, "a whole number from 1 on");
  return static_cast<uint32_t>(*number);
}

std::vector<double> TaskOptions::reals(const char* key, const std::vector<double>& otherwise) const {
  const Json* value = find_member(task_.options, key);
  if (!value) return otherwise;
  std::vector<double> numbers;
  try {
    if (const Json::Array* items = value->get<Json::Array>()) {
      for (const Json& item : *items) numbers.push_back(item.number());
    } else {
      numbers.push_back(value->number());
    }
  } catch (const Error&) {
    throw wrong(key, "a number or a list of numbers");
  }
  if (numbers.empty()) throw wrong(key, "a number or a list of numbers");
  return numbers;
}

double TaskOptions::real(const char* key, double otherwise) const { return reals(key, {otherwise}).front(); }

std::string TaskOptions::name(const char* key, const std::string& otherwise) const {
  const Json* value = find_member(task_.options, key);
  if (!value) return otherwise;
  const std::string* text = value->get<std::string>();
  if (!text) throw wrong(key, "a name");
  return *text;
}

std::string Cell::id() const { return depth < 0 ? cat(length, "-", sample) : cat(length, "-", depth, "-", sample); }

std::vector<Cell> cells(const TaskFile& task, uint32_t context) {
  const TaskOptions options(task);
  std::vector<uint32_t> lengths;
  for (const double length : options.reals("lengths", {4096})) {
    if (length < 1) throw Error(cat("the task ", task.name, " has a length of ", length, " tokens"));
    if (length <= context) {
      lengths.push_back(static_cast<uint32_t>(length));
    } else {
      log_warn(cat(task.name, ": the length ", length, " is left out, the context holds ", context, " tokens"));
    }
  }
  if (lengths.empty()) throw Error(cat("no length of the task ", task.name, " fits the context; give a larger -c"));
  const std::vector<double> depths = options.reals("depths", {-1});
  if (find_member(task.options, "depths") && std::ranges::any_of(depths, [](double d) { return d < 0 || d > 1; })) {
    throw Error(cat("the task ", task.name, ": its option 'depths' holds what is not from 0 to 1"));
  }
  std::vector<Cell> cells;
  for (uint32_t sample = 0; sample < options.count("samples", 1); ++sample) {
    for (const uint32_t length : lengths) {
      for (const double depth : depths) cells.push_back({length, depth, sample});
    }
  }
  return cells;
}

Rng Recipe::rng() const { return Rng(seed_of(task, cell, seed)); }
Rng Recipe::text_rng() const { return Rng(seed_of(task, {0, -1, cell.sample}, seed)); }

bool is_generated(const TaskFile& task) { return task.format.starts_with(kPrefix); }

Sample generate_sample(const TaskFile& task, const Haystack& haystack, const Cell& cell, uint32_t seed,
                       const std::function<size_t(const Sample&)>& size) {
  const Maker& maker = maker_of(task);
  const Recipe recipe{task, haystack, cell, seed};
  const auto make = [&](uint32_t units) {
    Draft draft = maker.make(recipe, units);
    Sample sample = make_sample(task, cell.id(), draft.context, {{"input", draft.input}});
    sample.answers = std::move(draft.answers);
    sample.extra = std::move(draft.extra);
    sample.extra.emplace_back("length", cell.length);
    if (cell.depth >= 0) sample.extra.emplace_back("depth", cell.depth);
    return sample;
  };
  const uint32_t units = most_units([&](uint32_t count) { return size(make(count)) + task.max_tokens <= cell.length; });
  if (units == 0) {
    throw Error(cat("the task ", task.name, " does not fit its length of ", cell.length, " tokens; make it longer"));
  }
  return make(units);
}

}  // namespace kvmerger::eval
