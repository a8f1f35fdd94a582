// Our own: rows go one by one, each time by the cheapest of two ways: dropped, or merged with a neighbour. What a step
// costs is the error it makes in the outputs that reference queries get from the head.
//
// With a_q the attention a row gets from query q and o_q the head's output, dropping row i changes the output by
// a_qi (v_i - o_q) to first order. Merging neighbours i and j into a row of mean key (by mass), mean value (by
// attention of all queries) and added mass replaces a_qi v_i + a_qj v_j by a'_q v', a'_q being the masses' sum times
// the geometric mean of what each unit of mass gets. Only rows whose tokens adjoin are merged: that neighbours are
// alike is what the KVMerger paper (arXiv 2407.08454) found; merging rows that are far apart hurts recall.
#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

#include "kernels/dense.h"
#include "policy/score_policy.h"
#include "policy/vectors.h"

namespace kvmerger::policy {
namespace {

// A row to be: old rows [begin, end), each with a weight in key and value.
struct Cluster {
  uint32_t begin, end;
  uint32_t before, after;  // neighbours among the clusters alive; kNone at the ends
  uint32_t changes = 0;    // steps that touched it: makes offers in the queue stale
  bool alive = true, fixed = false;
  float log_mass = 0.0F;   // the row's bias
  double attention = 0.0;  // of all queries
  double square = 0.0;     // |v|^2
};

constexpr uint32_t kNone = UINT32_MAX;
constexpr float kLeastAttention = 1e-30F;  // whose logarithm is taken

void exponentiate(std::vector<float>& logs) {
  const float largest = 0.0F;  // attention is at most 1
  float sum = 0.0F;
  kernels::exponentials(logs.data(), 1, static_cast<uint32_t>(logs.size()), 1.0F, nullptr, &largest, &sum);
}

// A step that could be taken: cluster `row` dropped, or merged with the one after it.
struct Offer {
  double cost;
  uint32_t row;
  bool merges;
  uint32_t changes, changes_after;  // of the clusters, when the offer was made

  bool operator<(const Offer& other) const {  // the queue has the cheapest on top; of equals the first row
    return cost != other.cost ? cost > other.cost : row > other.row;
  }
};

// Works one head down. Matrices are [rows, queries]: a row's figures for all queries lie together.
class Agglomeration {
 public:
  Agglomeration(const kv::HeadView& head, Protection ends, bool merge);
  void run(uint32_t rows);
  kv::HeadPlan plan() const;

 private:
  // What merging two clusters makes.
  struct Pair {
    float key, value;  // weights of the first; the second has the rest
    float log_mass;
  };

  void measure();
  Pair pair(const Cluster& first, const Cluster& second) const;
  // [queries] logarithms of the attention of the merged row.
  void merged_logs(uint32_t first, uint32_t second, const Pair& pair, float* out) const;
  double drop_cost(uint32_t row) const;
  double merge_cost(uint32_t first, uint32_t second) const;
  void offer_drop(uint32_t row);
  void offer_merge(uint32_t row);  // with the one after it
  void drop(uint32_t row);
  void merge(uint32_t row);

  float* attention(uint32_t row) { return &attention_[size_t{row} * queries_]; }
  const float* attention(uint32_t row) const { return &attention_[size_t{row} * queries_]; }
  const float* logs(uint32_t row) const { return &logs_[size_t{row} * queries_]; }
  const float* product(uint32_t row) const { return &product_[size_t{row} * queries_]; }

  const kv::HeadView& head_;
  const uint32_t queries_;
  const bool merges_;
  std::vector<Cluster> clusters_;
  std::vector<float> attention_, logs_;           // [rows, queries] a and log a
  std::vector<float> product_;                    // [rows, queries] v . o
  std::vector<float> output_square_;              // [queries] |o|^2
  std::vector<float> value_;                      // [rows, head_dim] of the clusters
  std::vector<float> key_weight_, value_weight_;  // [rows] of the old rows
  std::priority_queue<Offer> offers_;
  uint32_t alive_;
};

Agglomeration::Agglomeration(const kv::HeadView& head, Protection ends, bool merge)
    : head_(head),
      queries_(head.query.count),
      merges_(merge),
      attention_(size_t{head.rows()} * queries_),
      logs_(attention_.size()),
      product_(attention_.size()),
      output_square_(queries_),
      value_(head.value.data, head.value.data + size_t{head.rows()} * head.value.dim),
      key_weight_(head.rows(), 1.0F),
      value_weight_(head.rows(), 1.0F),
      alive_(head.rows()) {
  const uint32_t n = head.rows();
  for (uint32_t row = 0; row < n; ++row) {
    Cluster cluster{row, row + 1, row == 0 ? kNone : row - 1, row + 1 == n ? kNone : row + 1};
    cluster.fixed = row < ends.sinks || row >= n - ends.recent;
    cluster.log_mass = head.bias[row];
    clusters_.push_back(cluster);
  }
  measure();
  for (uint32_t row = 0; row < n; ++row) {
    offer_drop(row);
    offer_merge(row);
  }
}

// attention, product and output_square from the head.
void Agglomeration::measure() {
  const uint32_t n = head_.rows(), dim = head_.key.dim;
  std::vector<float> shares(size_t{queries_} * n), largest(queries_), sum(queries_), output(size_t{queries_} * dim);
  kernels::dense_attention(head_.query.data, queries_, head_.key.data, n, dim, head_.bias.data(), shares.data(),
                           largest.data(), sum.data());
  for (uint32_t query = 0; query < queries_; ++query) {
    for (uint32_t row = 0; row < n; ++row) {
      const float share = shares[size_t{query} * n + row] /= sum[query];
      attention(row)[query] = share;
      logs_[size_t{row} * queries_ + query] = std::log(std::max(share, kLeastAttention));
      clusters_[row].attention += double{share};
    }
  }
  kernels::multiply({shares.data(), n, 1}, {head_.value.data, dim, 1}, queries_, n, dim, output.data());
  kernels::multiply({head_.value.data, dim, 1}, {output.data(), 1, dim}, n, dim, queries_, product_.data());
  for (uint32_t row = 0; row < n; ++row) clusters_[row].square = square(head_.value[row]);
  for (uint32_t query = 0; query < queries_; ++query) {
    output_square_[query] = static_cast<float>(square({&output[size_t{query} * dim], dim}));
  }
}

Agglomeration::Pair Agglomeration::pair(const Cluster& first, const Cluster& second) const {
  const float difference = second.log_mass - first.log_mass, key = 1.0F / (1.0F + std::exp(difference));
  const double both = first.attention + second.attention;
  const float value = both > 0.0 ? static_cast<float>(first.attention / both) : key;
  return {key, value, first.log_mass - std::log(key)};
}

void Agglomeration::merged_logs(uint32_t first, uint32_t second, const Pair& pair, float* out) const {
  const float *a = logs(first), *b = logs(second), rest = 1.0F - pair.key;
  const float shift = pair.log_mass - pair.key * clusters_[first].log_mass - rest * clusters_[second].log_mass;
  for (uint32_t query = 0; query < queries_; ++query) out[query] = pair.key * a[query] + rest * b[query] + shift;
}

// sum over q of a^2 |v - o|^2
double Agglomeration::drop_cost(uint32_t row) const {
  const float *a = attention(row), *vo = product(row);
  double cost = 0.0;
  for (uint32_t query = 0; query < queries_; ++query) {
    const double distance = clusters_[row].square - 2 * double{vo[query]} + double{output_square_[query]};
    cost += double{a[query]} * double{a[query]} * std::max(distance, 0.0);
  }
  return cost;
}

// sum over q of |x (v_i - o) + y (v_j - o)|^2, x = a_i - a' u, y = a_j - a' (1 - u), u the weight of v_i in v'.
double Agglomeration::merge_cost(uint32_t first, uint32_t second) const {
  const Pair made = pair(clusters_[first], clusters_[second]);
  std::vector<float> merged(queries_);
  merged_logs(first, second, made, merged.data());
  exponentiate(merged);
  const uint32_t dim = head_.value.dim;
  const double values = dot({&value_[size_t{first} * dim], dim}, {&value_[size_t{second} * dim], dim});
  const float *a = attention(first), *b = attention(second), *ao = product(first), *bo = product(second);
  double cost = 0.0;
  for (uint32_t query = 0; query < queries_; ++query) {
    const double x = double{a[query] - merged[query] * made.value};
    const double y = double{b[query] - merged[query] * (1.0F - made.value)}, square = double{output_square_[query]};
    const double xx = clusters_[first].square - 2 * double{ao[query]} + square;
    const double yy = clusters_[second].square - 2 * double{bo[query]} + square;
    const double xy = values - double{ao[query]} - double{bo[query]} + square;
    cost += std::max(x * x * xx + y * y * yy + 2 * x * y * xy, 0.0);
  }
  return cost;
}

void Agglomeration::offer_drop(uint32_t row) {
  const Cluster& own = clusters_[row];
  if (!own.fixed) offers_.push({drop_cost(row), row, false, own.changes, 0});
}

void Agglomeration::offer_merge(uint32_t row) {
  const Cluster& own = clusters_[row];
  if (!merges_ || own.fixed || own.after == kNone) return;
  const Cluster& next = clusters_[own.after];
  if (next.fixed || own.end != next.begin) return;
  offers_.push({merge_cost(row, own.after), row, true, own.changes, next.changes});
}

void Agglomeration::drop(uint32_t row) {
  Cluster& own = clusters_[row];
  own.alive = false;
  if (own.before != kNone) clusters_[own.before].after = own.after;
  if (own.after != kNone) clusters_[own.after].before = own.before;
}

// The cluster takes the one after it in.
void Agglomeration::merge(uint32_t row) {
  Cluster& own = clusters_[row];
  const uint32_t second = own.after, dim = head_.value.dim;
  const Cluster& next = clusters_[second];
  const Pair made = pair(own, next);
  std::vector<float> merged(queries_);
  merged_logs(row, second, made, merged.data());
  std::copy(merged.begin(), merged.end(), &logs_[size_t{row} * queries_]);
  exponentiate(merged);
  std::copy(merged.begin(), merged.end(), attention(row));
  const float rest = 1.0F - made.value;
  for (uint32_t query = 0; query < queries_; ++query) {
    product_[size_t{row} * queries_ + query] = made.value * product(row)[query] + rest * product(second)[query];
  }
  own.square = 0.0;
  for (uint32_t at = 0; at < dim; ++at) {
    float& value = value_[size_t{row} * dim + at];
    value = made.value * value + rest * value_[size_t{second} * dim + at];
    own.square += double{value} * double{value};
  }
  for (uint32_t at = own.begin; at < next.end; ++at) {
    key_weight_[at] *= at < own.end ? made.key : 1.0F - made.key;
    value_weight_[at] *= at < own.end ? made.value : rest;
  }
  own.attention = 0.0;
  for (const float share : merged) own.attention += double{share};
  own.log_mass = made.log_mass;
  own.end = next.end;
  ++own.changes;
  drop(second);
}

void Agglomeration::run(uint32_t rows) {
  while (alive_ > rows && !offers_.empty()) {
    const Offer best = offers_.top();
    offers_.pop();
    const Cluster& own = clusters_[best.row];
    const bool stale = !own.alive || own.changes != best.changes;
    if (stale) continue;
    if (best.merges) {
      const uint32_t after = own.after;
      if (after == kNone || clusters_[after].begin != own.end || clusters_[after].changes != best.changes_after)
        continue;
      merge(best.row);
      offer_drop(best.row);
      offer_merge(best.row);
    } else {
      drop(best.row);
    }
    --alive_;
    const uint32_t before = own.before;  // its merge with this cluster has another cost now
    if (best.merges && before != kNone) offer_merge(before);
  }
}

kv::HeadPlan Agglomeration::plan() const {
  kv::HeadPlan plan;
  std::vector<kv::Source> key, value;
  for (const Cluster& cluster : clusters_) {
    if (!cluster.alive) continue;
    if (cluster.end == cluster.begin + 1) {
      plan.keep(head_, cluster.begin);
      continue;
    }
    key.clear();
    value.clear();
    uint32_t pivot = cluster.begin;
    for (uint32_t row = cluster.begin; row < cluster.end; ++row) {
      key.push_back({row, key_weight_[row]});
      value.push_back({row, value_weight_[row]});
      if (value_weight_[row] > value_weight_[pivot]) pivot = row;
    }
    plan.key.add(key);
    plan.value.add(value);
    plan.bias.push_back(cluster.log_mass);
    plan.pivot.push_back(pivot);
  }
  return plan;
}

class MergeOrEvict final : public Policy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.whole("queries", queries_, 8, 4096, "reference queries of each query head");
    visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay");
    visitor.whole("recent", recent_, 1, 4096, "newest rows that stay");
    visitor.flag("merge", merge_, "off: rows are only dropped, by the same error");
  }
  Needs needs() const override { return {.queries = queries_}; }

 protected:
  kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t rows) const override {
    Agglomeration work(head, within({sinks_, recent_}, rows), merge_);
    work.run(rows);
    return work.plan();
  }

 private:
  uint32_t queries_ = 96, sinks_ = 4, recent_ = 32;
  bool merge_ = true;
};

}  // namespace

std::unique_ptr<Policy> make_merge_or_evict() { return std::make_unique<MergeOrEvict>(); }

}  // namespace kvmerger::policy
