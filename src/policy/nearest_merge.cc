#include "policy/nearest_merge.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include "kernels/dense.h"
#include "policy/vectors.h"

namespace kvmerger::policy {
namespace {

// [rows, head_dim] the keys of `rows`, scaled to length 1; 0 stays 0.
std::vector<float> directions(const kv::Rows& key, std::span<const uint32_t> rows) {
  std::vector<float> directions;
  directions.reserve(rows.size() * key.dim);
  for (const uint32_t row : rows) {
    const double length = std::sqrt(square(key[row])), scale = length > 0.0 ? 1.0 / length : 0.0;
    for (const float value : key[row]) directions.push_back(static_cast<float>(double{value} * scale));
  }
  return directions;
}

std::vector<uint32_t> others(uint32_t count, std::span<const uint32_t> kept) {
  std::vector<uint32_t> all(count), dropped;
  std::iota(all.begin(), all.end(), 0U);
  std::ranges::set_difference(all, kept, std::back_inserter(dropped));
  return dropped;
}

// Matches a block of dropped rows; kept: [receivers, head_dim] directions of the receivers.
void match_block(const kv::Rows& key, std::span<const uint32_t> block, std::span<const uint32_t> receivers,
                 std::span<const float> kept, std::vector<Match>& matches) {
  const auto count = static_cast<uint32_t>(receivers.size()), width = static_cast<uint32_t>(block.size());
  const std::vector<float> lost = directions(key, block);
  std::vector<float> cosines(size_t{count} * width);  // [receivers, block]
  kernels::multiply({kept.data(), key.dim, 1}, {lost.data(), 1, key.dim}, count, key.dim, width, cosines.data());
  std::vector<float> best(cosines.begin(), cosines.begin() + width);
  std::vector<uint32_t> place(width);
  for (uint32_t receiver = 1; receiver < count; ++receiver) {
    const float* row = &cosines[size_t{receiver} * width];
    for (uint32_t at = 0; at < width; ++at) {
      place[at] = row[at] > best[at] ? receiver : place[at];
      best[at] = row[at] > best[at] ? row[at] : best[at];
    }
  }
  for (uint32_t at = 0; at < width; ++at) {
    matches.push_back({block[at], receivers[place[at]], std::clamp(best[at], -1.0F, 1.0F)});
  }
}

}  // namespace

std::vector<Match> nearest(const kv::Rows& key, std::span<const uint32_t> dropped,
                           std::span<const uint32_t> receivers) {
  constexpr size_t kBlock = 128;  // dropped rows at once, so that their cosines stay in the cache
  std::vector<Match> matches;
  if (receivers.empty()) return matches;
  const std::vector<float> kept = directions(key, receivers);
  for (size_t begin = 0; begin < dropped.size(); begin += kBlock) {
    match_block(key, dropped.subspan(begin, std::min(kBlock, dropped.size() - begin)), receivers, kept, matches);
  }
  return matches;
}

void NearestMerge::options(OptionVisitor& visitor) {
  visitor.real("recent", recent_, 0, 1, "share of the rows kept that goes to the newest");
  visitor.whole("sinks", sinks_, 0, 1024, "first rows that stay, as they are");
  visitor.flag("merge", merge_, "off: rows are dropped only");
}

Protection NearestMerge::protection(uint32_t rows) const { return within({sinks_, share_rows(recent_, rows)}, rows); }

std::vector<float> NearestMerge::row_scores(const kv::HeadView& head, uint32_t rows) const {
  check_statistics(head, needs());
  std::vector<float> scores(head.attn_sum.begin(), head.attn_sum.end());
  protect(scores, protection(rows));
  return scores;
}

kv::HeadPlan NearestMerge::plan_head(const kv::HeadView& head, uint32_t rows) const {
  const std::vector<uint32_t> kept = top_rows(row_scores(head, rows), rows);
  if (!merge_) return kv::keep_rows(head, kept);
  const uint32_t sinks = protection(rows).sinks;
  const auto receivers = std::span(kept).subspan(sinks, kept.size() - 1 - sinks);
  std::vector<Match> matches = chosen(nearest(head.key, others(head.rows(), kept), receivers));
  std::ranges::stable_sort(matches, {}, &Match::into);
  kv::HeadPlan plan;
  for (const uint32_t row : kept) fold(head, row, std::ranges::equal_range(matches, row, {}, &Match::into), plan);
  return plan;
}

void NearestMerge::fold(const kv::HeadView& head, uint32_t row, std::span<const Match> joining,
                        kv::HeadPlan& plan) const {
  if (joining.empty()) return plan.keep(head, row);
  std::vector<float> cosines;
  for (const Match& match : joining) cosines.push_back(match.cosine);
  const Weights made = weights(cosines);
  std::vector<kv::Source> sources{{row, made.self}};
  for (size_t at = 0; at < joining.size(); ++at) sources.push_back({joining[at].row, made.joined[at]});
  plan.key.add(sources);
  plan.value.add(sources);
  plan.bias.push_back(head.bias[row]);
  plan.pivot.push_back(row);
}

}  // namespace kvmerger::policy
