// Whole methods by name: how rows are shared over the heads, which survive, how they are corrected. What a user names
// with one word, and what results are labelled with.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/compactor.h"

namespace kvmerger::engine {

struct Method {
  const char* name;
  const char* line;
  const char* source;
  const char *policy, *heads, *fit;  // spec strings
};

std::span<const Method> methods();

// The specs behind `text`: a method's name, or `policy`, `policy+heads`, `policy+heads+fit`; heads are uniform and the
// fit is none where not given, as methods are published. The budget stays empty. Throws UsageError on more than three
// parts; whether policy, heads and fit are known is the Compactor's to say.
CompactionSpec method_spec(const std::string& text);

// Splits `a,b:key=value,key=value,c` at the commas between methods.
std::vector<std::string> split_methods(const std::string& text);

}  // namespace kvmerger::engine
