// Correcting what survives: better biases and values for the rows of a plan, between plan and apply.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/options.h"
#include "kv/plan.h"
#include "kv/views.h"

namespace kvmerger::fit {

struct Fitted {
  kv::LayerPlan plan;
  // [heads] relative_error (fit/response.h) on the held-out queries, where the fit has measured it.
  std::vector<std::optional<double>> errors;
};

class Fit {
 public:
  virtual ~Fit() = default;
  virtual void options(OptionVisitor&) {}
  virtual uint32_t queries() const { return 0; }  // reference queries of each query head that it needs
  // Returns the plan with other bias, dense and dense_value; rows, sources and pivots stay. Heads that the plan does
  // not change stay as they are. Throws Error when the view has no reference queries though they are needed.
  Fitted fit(const kv::LayerView& view, kv::LayerPlan plan) const;

 protected:
  virtual double fit_head(const kv::HeadView& head, kv::HeadPlan& plan) const;  // returns the error
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
