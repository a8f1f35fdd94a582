#include "core/json.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace kvmerger {
namespace {

using Library = nlohmann::ordered_json;

Library to_library(const Json& json) {
  if (const bool* flag = json.get<bool>()) return *flag;
  if (const int64_t* whole = json.get<int64_t>()) return *whole;
  if (const double* real = json.get<double>()) return *real;
  if (const std::string* text = json.get<std::string>()) return *text;
  if (const Json::Array* items = json.get<Json::Array>()) {
    Library out = Library::array();
    for (const Json& item : *items) out.push_back(to_library(item));
    return out;
  }
  if (const Json::Object* members = json.get<Json::Object>()) {
    Library out = Library::object();
    for (const auto& [key, member] : *members) out[key] = to_library(member);
    return out;
  }
  return nullptr;
}

constexpr uint32_t kMaxDepth = 256;  // a text may not make us run out of stack

Json from_library(const Library& value, uint32_t depth = 0) {
  if (depth > kMaxDepth) throw Error(cat("JSON: nested more than ", kMaxDepth, " deep"));
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    Json::Array items;
    for (const Library& item : value) items.push_back(from_library(item, depth + 1));
    return items;
  }
  if (value.is_object()) {
    Json::Object members;
    for (const auto& [key, member] : value.items()) members.emplace_back(key, from_library(member, depth + 1));
    return members;
  }
  return {};
}

template <typename T>
const T& expect(const Json& json, const char* kind) {
  const T* value = json.get<T>();
  if (!value) throw Error(cat("JSON: ", kind, " expected, found ", dump_json(json, -1).substr(0, 40)));
  return *value;
}

}  // namespace

Json::Json(uint64_t value) {
  if (value > INT64_MAX) {
    value_ = static_cast<double>(value);
  } else {
    value_ = static_cast<int64_t>(value);
  }
}

const Json& Json::at(std::string_view key) const {
  for (const auto& [name, member] : expect<Object>(*this, "an object")) {
    if (name == key) return member;
  }
  throw Error(cat("JSON: no member '", key, "'"));
}

const std::string& Json::text() const { return expect<std::string>(*this, "a string"); }
int64_t Json::integer() const { return expect<int64_t>(*this, "a whole number"); }
bool Json::boolean() const { return expect<bool>(*this, "true or false"); }
const Json::Array& Json::array() const { return expect<Array>(*this, "an array"); }
double Json::number() const {
  if (const int64_t* whole = get<int64_t>()) return static_cast<double>(*whole);
  return expect<double>(*this, "a number");
}

std::string dump_json(const Json& value, int indent) {
  return to_library(value).dump(indent, ' ', false, Library::error_handler_t::replace);
}

Json parse_json(std::string_view text) {
  try {
    return from_library(Library::parse(text));
  } catch (const Library::exception& error) {
    throw Error(cat("JSON: ", error.what()));
  }
}

}  // namespace kvmerger
