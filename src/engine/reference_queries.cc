#include "engine/reference_queries.h"

#include <algorithm>
#include <numeric>

#include "core/rng.h"
#include "model/rotate.h"

namespace kvmerger::engine {
namespace {

uint64_t hash(int32_t position) { return Rng(static_cast<uint64_t>(position)).next(); }

}  // namespace

uint64_t ReferenceQueries::priority(int32_t position) { return position < kSinks ? UINT64_MAX : hash(position); }

ReferenceQueries::ReferenceQueries(const model::DecoderConfig& config, uint32_t tokens)
    : capacity_(tokens),
      layers_(config.layers),
      width_(config.heads * config.head_dim),
      data_(size_t{layers_} * capacity_ * width_) {}

void ReferenceQueries::begin_run(uint32_t tokens, int32_t first_pos) {
  picks_.clear();
  if (capacity_ == 0) return;
  for (uint32_t token = 0; token < tokens; ++token) {
    const int32_t position = first_pos + static_cast<int32_t>(token);
    uint32_t slot = count();
    if (slot < capacity_) {
      positions_.push_back(position);
    } else {
      const auto last = std::max_element(positions_.begin(), positions_.end(),
                                         [](int32_t a, int32_t b) { return priority(a) < priority(b); });
      if (priority(position) >= priority(*last)) continue;
      *last = position;
      slot = static_cast<uint32_t>(last - positions_.begin());
    }
    std::erase_if(picks_, [&](const Pick& pick) { return pick.slot == slot; });
    picks_.push_back({token, slot});
  }
}

float* ReferenceQueries::slot(uint32_t layer, uint32_t slot) {
  return &data_[(size_t{layer} * capacity_ + slot) * width_];
}

void ReferenceQueries::truncate(int32_t end) {
  for (uint32_t slot = 0; slot < count();) {
    if (positions_[slot] < end) {
      ++slot;
      continue;
    }
    const uint32_t last = count() - 1;
    for (uint32_t layer = 0; layer < layers_; ++layer)
      std::copy_n(this->slot(layer, last), width_, this->slot(layer, slot));
    positions_[slot] = positions_[last];
    positions_.pop_back();
  }
}

std::vector<uint32_t> ReferenceQueries::chosen(uint32_t tokens) const {
  std::vector<uint32_t> slots(count());
  std::iota(slots.begin(), slots.end(), 0U);
  std::ranges::sort(slots, {}, [&](uint32_t slot) { return priority(positions_[slot]); });
  const auto behind = std::ranges::count_if(positions_, [](int32_t position) { return position >= kSinks; });
  slots.resize(std::min({slots.size(), size_t{tokens}, behind > 0 ? static_cast<size_t>(behind) : slots.size()}));
  std::ranges::sort(slots, {}, [&](uint32_t slot) { return positions_[slot]; });
  return slots;
}

std::vector<std::vector<float>> ReferenceQueries::replayed(const model::Model& model, int32_t end,
                                                           uint32_t queries) const {
  const model::DecoderConfig& config = model.config();
  const std::vector<uint32_t> slots = chosen(queries);
  std::vector<int32_t> moves;
  for (const uint32_t slot : slots) {
    const auto future = static_cast<int32_t>(hash(~positions_[slot]) % kFuture);
    moves.push_back(end + future - positions_[slot]);
  }
  std::vector<std::vector<float>> heads;
  std::vector<float> rows(slots.size() * width_);
  for (uint32_t layer = 0; layer < layers_ && !slots.empty(); ++layer) {
    for (size_t at = 0; at < slots.size(); ++at) {
      std::copy_n(&data_[(size_t{layer} * capacity_ + slots[at]) * width_], width_, &rows[at * width_]);
    }
    model::rotate(model, rows, moves);
    for (uint32_t head = 0; head < config.heads; ++head) {
      if (head % config.group() == 0) heads.emplace_back();
      for (size_t at = 0; at < slots.size(); ++at) {
        const float* from = &rows[at * width_ + size_t{head} * config.head_dim];
        heads.back().insert(heads.back().end(), from, from + config.head_dim);
      }
    }
  }
  return heads;
}

}  // namespace kvmerger::engine
