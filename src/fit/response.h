// What queries get from a head: the measure of every correction.
#pragma once

#include <cstdint>
#include <vector>

#include "kv/plan.h"
#include "kv/views.h"

namespace kvmerger::fit {

// Every fourth reference query is held out: corrections never see it, errors are measured on it.
enum class Part { kFit, kHeldOut };

// What the full head answers to r queries.
struct Target {
  uint32_t count = 0, dim = 0;
  std::vector<float> query;    // [r, head_dim]
  std::vector<float> largest;  // [r] logit
  std::vector<float> sum;      // [r] of exp(logit - largest)
  std::vector<float> output;   // [r, head_dim]
};
Target target(const kv::HeadView& head, Part part);

// The rows a plan makes.
struct Survivors {
  uint32_t count = 0, dim = 0;
  std::vector<float> key, value;  // [rows, head_dim]
  std::vector<float> bias;        // [rows]
};
Survivors survivors(const kv::HeadView& head, const kv::HeadPlan& plan);

// [r, rows] exp(logit of the survivors without their bias - the target's largest) / the target's sum: the attention
// that each row would get from the full head.
std::vector<float> attention(const Target& target, const Survivors& rows);

// [r, rows] of attention times [rows] of weights.
std::vector<float> weighted(const std::vector<float>& attention, const std::vector<float>& weight);

// sum |o' - o|^2 / sum |o|^2 over the queries, o' from rows with these weights e^bias.
double relative_error(const Target& target, const std::vector<float>& attention, const std::vector<float>& weight,
                      const std::vector<float>& value);
// The same for a plan, on the held-out queries. The head must have reference queries.
double predicted_error(const kv::HeadView& head, const kv::HeadPlan& plan);

}  // namespace kvmerger::fit
