// What is measured: every combination of the values given.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/compactor.h"
#include "engine/keeper.h"
#include "kernels/page.h"

namespace kvmerger::bench {

// How the cache is kept small.
struct Method {
  std::string name;  // as the user wrote it
  engine::CompactionSpec spec;
  std::string when = "prefill";
};

struct MethodLists {
  std::vector<std::string> methods;               // none: the default when there is a budget, else the full cache
  std::vector<std::string> budgets, heads, fits;  // heads, fits: in place of the method's; none: those
  std::vector<std::string> whens{"prefill"};
};

// Every combination once; the full cache has no budget, so it comes once. Throws UsageError on what is not known or
// does not go together.
std::vector<Method> all_methods(const MethodLists& lists);

// What a session is made with.
struct Setting {
  uint32_t threads = 0;  // 0: one per core
  uint32_t batch = 512;
  kernels::RowType key_type = kernels::RowType::kF16, value_type = kernels::RowType::kF16;
};

struct SettingLists {
  std::vector<uint32_t> threads{0}, batches{512};
  std::vector<kernels::RowType> key_types{kernels::RowType::kF16}, value_types{kernels::RowType::kF16};
};
std::vector<Setting> all_settings(const SettingLists& lists);

// Reading `prompt` tokens, or generating `generate`, behind `depth` tokens in the cache. One of the first two is 0.
struct Test {
  uint32_t prompt = 0, generate = 0, depth = 0;

  uint32_t tokens() const { return prompt + generate; }
};
std::string name_of(const Test& test);  // `pp512`, `tg128 @ d8192`, as llama-bench has it

}  // namespace kvmerger::bench
