// Options of a table row (a policy, a budget, a fit): declared once by visiting, read from a spec, printed and listed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec.h"

namespace kvmerger {

// A row declares its options by calling one of these per field, with the field at its default.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;
  virtual void real(std::string_view key, double& field, double least, double most, std::string_view help) = 0;
  // Without a value: chosen by the method, written `auto`.
  virtual void real_or_auto(std::string_view key, std::optional<double>& field, double least, double most,
                            std::string_view help) = 0;
  virtual void whole(std::string_view key, uint32_t& field, uint32_t least, uint32_t most, std::string_view help) = 0;
  virtual void flag(std::string_view key, bool& field, std::string_view help) = 0;  // on | off
  virtual void choice(std::string_view key, std::string& field, const std::vector<std::string>& names,
                      std::string_view help) = 0;
};

using DeclareOptions = std::function<void(OptionVisitor&)>;

// Fills the fields from spec. Throws UsageError on an unknown key (listing the known) or a bad value (saying the
// range).
void read_options(const Spec& spec, const DeclareOptions& declare);

// One option as `kvmerger list` shows it.
struct OptionHelp {
  std::string key, value, range, help;  // value: what the field holds now
};
std::vector<OptionHelp> describe_options(const DeclareOptions& declare);

}  // namespace kvmerger
