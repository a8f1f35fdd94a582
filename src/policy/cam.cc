// CaM (Cache Merging, ICML 2024): rows are dropped as by another method, their values handed to the rows that follow.
//
// The authors evict one row per decoding step, the one that leaves the recent window; the m rows that follow it in the
// cache are then all alive. Here many rows go at once, so "the next m rows" are read as the next m rows that survive:
// over them attention is averaged, and each gets value / m. Near the end, where fewer follow, their number takes the
// place of m, so that nothing of a merged value is lost. Keys stay. Of what a dropped row got from rows dropped before
// it nothing is handed on, since only survivors receive.
#include <algorithm>

#include "core/rng.h"
#include "policy/score_policy.h"

namespace kvmerger::policy {
namespace {

class Cam final : public Policy {
 public:
  void options(OptionVisitor& visitor) override {
    visitor.choice("base", base_, {"h2o", "streaming_llm"}, "method that chooses the rows; its options follow");
    base().options(visitor);
    visitor.whole("m", followers_, 1, 1024, "surviving rows that share a dropped value");
    visitor.choice("mode", mode_, {"bernoulli", "expected"},
                   "merge with probability p, or with p as the weight (not the paper's method, no randomness)");
    visitor.whole("seed", seed_, 0, UINT32_MAX, "of the random numbers in mode bernoulli");
    visitor.flag("merge", merge_, "off: rows are dropped only");
  }
  Needs needs() const override {
    Needs needs = base().needs();
    needs.attn_sum |= merge_;
    return needs;
  }

 protected:
  kv::HeadPlan plan_head(const kv::HeadView& head, uint32_t rows) const override {
    const std::vector<uint32_t> kept = base().kept_rows(head, rows);
    kv::HeadPlan plan = kv::keep_rows(head, kept);
    if (merge_) plan.value = values(kept, shares(head, kept));
    return plan;
  }

 private:
  ScorePolicy& base() const { return base_ == "h2o" ? *h2o_ : *streaming_llm_; }

  // [n] the share of its value that each dropped row hands to each of its followers; 0 for the rows kept. The newest
  // row is kept, so every dropped row has followers.
  std::vector<float> shares(const kv::HeadView& head, const std::vector<uint32_t>& kept) const {
    std::vector<double> before{0.0};  // [kept + 1] attention of the kept rows added up
    for (uint32_t row : kept) before.push_back(before.back() + double{head.attn_sum[row]});
    Rng rng = generator(kept);
    std::vector<float> shares(head.rows());
    for (uint32_t row = 0, first = 0; row < head.rows(); ++row) {
      if (row == kept[first]) {
        if (++first == kept.size()) break;
        continue;
      }
      const uint32_t end = std::min(first + followers_, static_cast<uint32_t>(kept.size())), count = end - first;
      const double chance = ratio(double{head.attn_sum[row]} * count, before[end] - before[first]);
      const double merged = mode_ == "expected" ? chance : (rng.uniform() < chance ? 1.0 : 0.0);
      shares[row] = static_cast<float>(merged / count);
    }
    return shares;
  }

  static double ratio(double part, double whole) {
    if (whole > 0.0) return std::min(part / whole, 1.0);
    return part > 0.0 ? 1.0 : 0.0;
  }

  // Heads that keep different rows draw independently; the order of heads makes no difference.
  Rng generator(const std::vector<uint32_t>& kept) const {
    uint64_t state = seed_;
    for (uint32_t row : kept) state = Rng(state ^ row).next();
    return Rng(state);
  }

  // A kept row receives from the rows dropped between the one m places before it and itself.
  kv::Sums values(const std::vector<uint32_t>& kept, const std::vector<float>& shares) const {
    kv::Sums values;
    std::vector<kv::Source> sources;
    for (uint32_t place = 0; place < kept.size(); ++place) {
      sources.assign(1, {kept[place], 1.0F});
      for (uint32_t row = place < followers_ ? 0 : kept[place - followers_] + 1; row < kept[place]; ++row) {
        if (shares[row] > 0.0F) sources.push_back({row, shares[row]});
      }
      values.add(sources);
    }
    return values;
  }

  std::string base_ = "h2o", mode_ = "bernoulli";
  std::unique_ptr<ScorePolicy> h2o_ = make_h2o(), streaming_llm_ = make_streaming_llm();
  uint32_t followers_ = 32, seed_ = 0;
  bool merge_ = true;
};

}  // namespace

std::unique_ptr<Policy> make_cam() { return std::make_unique<Cam>(); }

}  // namespace kvmerger::policy
