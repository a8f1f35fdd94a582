#include "core/options.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace kvmerger {
namespace {

std::string text(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

template <typename Number>
std::string range_text(Number least, Number most) {
  return cat(least, " .. ", most);
}

std::string join(const std::vector<std::string>& names, const char* separator) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : separator) + name;
  return out;
}

class Reader final : public OptionVisitor {
 public:
  explicit Reader(const Spec& spec) : spec_(spec) {}

  void real(std::string_view key, double& field, double least, double most, std::string_view) override {
    if (const std::string* value = find(key)) field = number<double>(key, *value, least, most);
  }
  void real_or_auto(std::string_view key, std::optional<double>& field, double least, double most,
                    std::string_view) override {
    const std::string* value = find(key);
    if (!value) return;
    field = *value == "auto" ? std::nullopt : std::optional(number<double>(key, *value, least, most));
  }
  void whole(std::string_view key, uint32_t& field, uint32_t least, uint32_t most, std::string_view) override {
    if (const std::string* value = find(key)) field = number<uint32_t>(key, *value, least, most);
  }
  void flag(std::string_view key, bool& field, std::string_view) override {
    const std::string* value = find(key);
    if (!value) return;
    if (*value != "on" && *value != "off") bad(key, *value, "on or off");
    field = *value == "on";
  }
  void choice(std::string_view key, std::string& field, const std::vector<std::string>& names,
              std::string_view) override {
    const std::string* value = find(key);
    if (!value) return;
    if (std::find(names.begin(), names.end(), *value) == names.end()) bad(key, *value, join(names, " or "));
    field = *value;
  }

  void finish() const {
    for (const auto& [key, value] : spec_.options) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      const std::string list = known_.empty() ? "it has no options" : "it knows: " + join(known_, ", ");
      throw UsageError(cat("'", spec_.name, "' has no option '", key, "'; ", list));
    }
  }

 private:
  const std::string* find(std::string_view key) {
    known_.emplace_back(key);
    for (const auto& option : spec_.options) {
      if (option.first == key) return &option.second;
    }
    return nullptr;
  }

  [[noreturn]] void bad(std::string_view key, std::string_view value, std::string_view expected) const {
    throw UsageError(cat("'", spec_.name, "': ", key, "=", value, " is not ", expected));
  }

  template <typename Number>
  Number number(std::string_view key, const std::string& value, Number least, Number most) const {
    Number parsed{};
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, parsed);
    const bool ok = error == std::errc() && stop == end && parsed >= least && parsed <= most;
    if (!ok) bad(key, value, "a number in " + range_text(least, most));
    return parsed;
  }

  const Spec& spec_;
  std::vector<std::string> known_;
};

class Describer final : public OptionVisitor {
 public:
  void real(std::string_view key, double& field, double least, double most, std::string_view help) override {
    add(key, text(field), range_text(least, most), help);
  }
  void real_or_auto(std::string_view key, std::optional<double>& field, double least, double most,
                    std::string_view help) override {
    add(key, field ? text(*field) : "auto", "auto or " + range_text(least, most), help);
  }
  void whole(std::string_view key, uint32_t& field, uint32_t least, uint32_t most, std::string_view help) override {
    add(key, cat(field), range_text(least, most), help);
  }
  void flag(std::string_view key, bool& field, std::string_view help) override {
    add(key, field ? "on" : "off", "on | off", help);
  }
  void choice(std::string_view key, std::string& field, const std::vector<std::string>& names,
              std::string_view help) override {
    add(key, field, join(names, " | "), help);
  }

  std::vector<OptionHelp> options;

 private:
  void add(std::string_view key, std::string value, std::string range, std::string_view help) {
    options.push_back({std::string(key), std::move(value), std::move(range), std::string(help)});
  }
};

}  // namespace

void read_options(const Spec& spec, const DeclareOptions& declare) {
  Reader reader(spec);
  declare(reader);
  reader.finish();
}

std::vector<OptionHelp> describe_options(const DeclareOptions& declare) {
  Describer describer;
  declare(describer);
  return std::move(describer.options);
}

}  // namespace kvmerger
