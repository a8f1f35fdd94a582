#include "kv/plan.h"

#include <cmath>

#include "core/error.h"

namespace kvmerger::kv {
namespace {

struct Where {  // for messages
  uint32_t layer, head;
};

[[noreturn]] void broken(const Where& where, const std::string& what) {
  throw Error(cat("plan for layer ", where.layer, ", head ", where.head, ": ", what));
}

void check_sums(const Sums& sums, const char* name, uint32_t rows, uint32_t old_rows, const Where& where) {
  if (sums.begin.empty() || sums.begin.front() != 0 || sums.begin.back() != sums.source.size()) {
    broken(where, cat(name, " sums are not in compressed-row form"));
  }
  if (sums.count() != rows) broken(where, cat(name, " sums for ", sums.count(), " rows, but ", rows, " pivots"));
  for (uint32_t row = 0; row < rows; ++row) {
    if (sums.begin[row] >= sums.begin[row + 1]) broken(where, cat("row ", row, " has no ", name, " source"));
  }
  for (uint32_t row = 0; row < rows; ++row) {
    for (const Source& source : sums[row]) {
      const auto wrong = [&](const std::string& what) { broken(where, cat("row ", row, ": ", what)); };
      if (source.row >= old_rows) wrong(cat(name, " source ", source.row, " of ", old_rows, " rows"));
      if (!std::isfinite(source.weight)) wrong(cat("weight of ", name, " source ", source.row, " is not finite"));
    }
  }
}

void check_dense(const HeadPlan& plan, uint32_t head_dim, const Where& where) {
  if (plan.dense.empty()) return;
  if (plan.dense.size() != plan.rows()) broken(where, "dense values are not given per row");
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    const int32_t index = plan.dense[row];
    if (index == -1) continue;
    if (index < 0 || (size_t(index) + 1) * head_dim > plan.dense_value.size()) {
      broken(where, cat("row ", row, ": dense value ", index, " is not there"));
    }
    for (const float value : std::span(plan.dense_value).subspan(size_t(index) * head_dim, head_dim)) {
      if (!std::isfinite(value)) broken(where, cat("row ", row, ": dense value ", index, " is not finite"));
    }
  }
}

void check_head(const HeadPlan& plan, const HeadView& head, const Where& where) {
  const uint32_t rows = plan.rows(), old_rows = head.rows();
  check_sums(plan.key, "key", rows, old_rows, where);
  check_sums(plan.value, "value", rows, old_rows, where);
  check_dense(plan, head.key.dim, where);
  if (plan.bias.size() != rows) broken(where, cat(plan.bias.size(), " biases for ", rows, " rows"));
  for (uint32_t row = 0; row < rows; ++row) {
    if (!std::isfinite(plan.bias[row])) broken(where, cat("bias of row ", row, " is not finite"));
    if (plan.pivot[row] >= old_rows) {
      broken(where, cat("row ", row, ": pivot ", plan.pivot[row], " of ", old_rows, " rows"));
    }
    if (row > 0 && plan.pivot[row] <= plan.pivot[row - 1]) broken(where, cat("pivots do not increase at row ", row));
  }
  if (old_rows > 0 && (rows == 0 || plan.pivot.back() != old_rows - 1)) broken(where, "the newest row is not kept");
}

}  // namespace

void HeadPlan::keep(const HeadView& head, uint32_t row) {
  key.add(Source{row, 1.0F});
  value.add(Source{row, 1.0F});
  bias.push_back(head.bias[row]);
  pivot.push_back(row);
}

HeadPlan keep_all(const HeadView& head) {
  HeadPlan plan;
  for (uint32_t row = 0; row < head.rows(); ++row) plan.keep(head, row);
  return plan;
}

HeadPlan keep_rows(const HeadView& head, std::span<const uint32_t> kept) {
  HeadPlan plan;
  for (const uint32_t row : kept) plan.keep(head, row);
  return plan;
}

bool is_identity(const HeadPlan& plan, const HeadView& head) {
  if (plan.rows() != head.rows()) return false;
  const auto itself = [](std::span<const Source> sum, uint32_t row) {
    return sum.size() == 1 && sum[0].row == row && sum[0].weight == 1.0F;
  };
  for (uint32_t row = 0; row < plan.rows(); ++row) {
    if (!itself(plan.key[row], row) || !itself(plan.value[row], row)) return false;
    if (plan.bias[row] != head.bias[row] || plan.pivot[row] != row) return false;
    if (!plan.dense.empty() && plan.dense[row] >= 0) return false;
  }
  return true;
}

void validate(const LayerPlan& plan, const LayerView& view) {
  if (plan.size() != view.heads.size()) {
    throw Error(cat("plan for layer ", view.index, ": ", plan.size(), " heads, but the layer has ", view.heads.size()));
  }
  for (uint32_t head = 0; head < plan.size(); ++head) check_head(plan[head], view.heads[head], {view.index, head});
}

}  // namespace kvmerger::kv
