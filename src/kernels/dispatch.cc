#include "kernels/dispatch.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "hwy/targets.h"
#include "kernels/attention.h"

namespace kvmerger::kernels {
namespace {

constexpr const char* kVariable = "KVMERGER_TARGET";

std::atomic<int64_t> active_target{0};  // one of Highway's bits

// Highway's portable targets only forward to the reference code.
const char* label(int64_t target) {
  return target == HWY_SCALAR || target == HWY_EMU128 ? "SCALAR" : hwy::TargetName(target);
}

bool equal_ignoring_case(std::string_view left, std::string_view right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](unsigned char a, unsigned char b) { return std::toupper(a) == std::toupper(b); });
}

// 0 when no available target has that name.
int64_t find_target(std::string_view name) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (equal_ignoring_case(name, label(target))) return target;
  }
  return 0;
}

void activate(int64_t target) {
  hwy::GetChosenTarget().Update(target);
  active_target = target;
}

std::string unknown_target(std::string_view name) {
  std::string message = cat(kVariable, "=", name, " is no instruction set of this build and machine; choose one of");
  for (const std::string& known : target_names()) message += cat(" ", known);
  return message + ", or leave the variable unset for the first of them";
}

bool activate_first_choice() noexcept {
  const char* name = std::getenv(kVariable);
  const int64_t asked = name == nullptr ? 0 : find_target(name);
  activate(asked != 0 ? asked : hwy::SupportedAndGeneratedTargets().front());
  return true;
}

}  // namespace

void choose_target() noexcept { [[maybe_unused]] static const bool chosen = activate_first_choice(); }

void use_target_for_test(const std::string& name) {
  choose_target();
  const int64_t target = find_target(name);
  if (target == 0) throw Error(unknown_target(name));
  activate(target);
}

const char* target_name() noexcept {
  choose_target();
  return label(active_target);
}

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) names.emplace_back(label(target));
  return names;
}

void check_target() {
  const char* name = std::getenv(kVariable);
  if (name != nullptr && find_target(name) == 0) throw Error(unknown_target(name));
}

}  // namespace kvmerger::kernels
