// A JSON value for reports and headers. The parser and the printer behind it are nlohmann's, in json.cc only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace kvmerger {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // keeps the order of insertion

  Json() = default;  // null
  Json(bool value) : value_(value) {}
  Json(int value) : value_(static_cast<int64_t>(value)) {}
  Json(uint32_t value) : value_(static_cast<int64_t>(value)) {}
  Json(int64_t value) : value_(value) {}
  Json(uint64_t value);  // from 2^63 on a real number
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  template <typename T>
  const T* get() const {
    return std::get_if<T>(&value_);
  }
  // Member of an object; throws Error naming the key when there is none.
  const Json& at(std::string_view key) const;
  // Value of the asked kind; throws Error when it is another kind. Whole numbers serve as doubles.
  const std::string& text() const;
  int64_t integer() const;
  double number() const;
  bool boolean() const;
  const Array& array() const;

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_ = nullptr;
};

// indent < 0: one line. Invalid UTF-8 is replaced by U+FFFD; NaN and infinity become null.
std::string dump_json(const Json& value, int indent = 2);
// Throws Error with the position of the fault, and on text nested more than 256 deep.
Json parse_json(std::string_view text);

}  // namespace kvmerger
