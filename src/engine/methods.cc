#include "engine/methods.h"

#include <algorithm>

#include "core/error.h"
#include "policy/policy.h"

namespace kvmerger::engine {
namespace {

constexpr Method kMethods[] = {
    {"default", "our choice: a profile's rows per head, expected attention, a least-squares fit", "docs/methods.md",
     "expected_attention", "profile", "ls"},
    {"document",
     "as default, with rows and heads chosen by what this text, repeated, reads: a second prefill, no recall lost",
     "docs/methods.md", "expected_attention:recall=0.004", "document", "ls"},
    {"paper", "KVMerger as published: sum of values, no bias, every head alike", "arXiv 2407.08454", "kvmerger",
     "uniform", "none"},
    {"adakv", "SnapKV, the rows of a layer shared out by score", "arXiv 2407.11550", "snapkv", "ada", "none"},
    {"pyramidkv", "SnapKV, fewer rows in later layers", "arXiv 2406.02069", "snapkv", "pyramid", "none"},
    {"duo_attention", "retrieval heads whole, the others first and newest rows", "arXiv 2410.10819", "streaming_llm",
     "duo", "none"},
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// The policies' own message would not name the methods.
void check_known(const std::string& policy) {
  const std::string name = policy.substr(0, policy.find(':'));
  const auto same = [&](const auto& entry) { return name == entry.name; };
  if (name.empty() || std::ranges::any_of(policy::all(), same)) return;  // no name at all: the spec's message
  std::string methods, policies;
  for (const Method& method : kMethods) methods += cat(methods.empty() ? "" : ", ", method.name);
  for (const policy::Entry& entry : policy::all()) policies += cat(policies.empty() ? "" : ", ", entry.name);
  const bool whole = std::ranges::any_of(kMethods, same);
  throw UsageError(
      whole ? cat("the method '", name, "' stands alone; options and parts are those of policies: ", policies)
            : cat("there is no policy '", name, "'; methods: ", methods, "; policies: ", policies));
}

}  // namespace

std::span<const Method> methods() { return kMethods; }

CompactionSpec method_spec(const std::string& text) {
  for (const Method& method : kMethods) {
    if (text == method.name) return {method.policy, method.heads, method.fit, ""};
  }
  const std::vector<std::string> parts = split(text, '+');
  if (parts.size() > 3)
    throw UsageError(cat("'", text, "' is no method; write policy, policy+heads or policy+heads+fit"));
  check_known(parts[0]);
  CompactionSpec spec;
  spec.policy = parts[0];
  if (parts.size() > 1) spec.heads = parts[1];
  if (parts.size() > 2) spec.fit = parts[2];
  return spec;
}

std::vector<std::string> split_methods(const std::string& text) {
  std::vector<std::string> methods;
  for (const std::string& part : split(text, ',')) {
    // An option of the spec before it: no name, that is no colon, ahead of the equals sign.
    const size_t equals = part.find('='), colon = part.find(':');
    const bool option = equals != std::string::npos && (colon == std::string::npos || colon > equals);
    if (option && !methods.empty() && methods.back().find(':') != std::string::npos) {
      methods.back() += "," + part;
    } else {
      methods.push_back(part);
    }
  }
  return methods;
}

}  // namespace kvmerger::engine
