// Correcting what survives: better biases and values for the rows of a plan, between plan and apply.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "core/options.h"
#include "kv/plan.h"
#include "kv/views.h"

namespace kvmerger::fit {

class Fit {
 public:
  virtual ~Fit() = default;
  virtual void options(OptionVisitor&) {}
  virtual uint32_t queries() const { return 0; }  // reference queries per layer it needs
  // Returns the plan with other bias, dense and dense_value; rows, sources and pivots stay.
  virtual kv::LayerPlan fit(const kv::LayerView& view, kv::LayerPlan plan) const = 0;
};

struct Entry {
  const char* name;
  const char* line;
  const char* source;
  std::unique_ptr<Fit> (*make)();
};

std::span<const Entry> all();
std::unique_ptr<Fit> make(const std::string& spec);

}  // namespace kvmerger::fit
