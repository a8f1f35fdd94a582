// Reading a layer as f32, and replacing its rows by those of a plan.
#include <algorithm>
#include <cstring>

#include "kv/store.h"
#include "kv/store_impl.h"

namespace kvmerger::kv {
namespace {

struct Floats {  // rows of one head as f32
  std::vector<float> key, value;
};

Floats dequantise(const kernels::HeadRows& rows) {
  Floats floats;
  floats.key.resize(size_t{rows.rows} * rows.head_dim);
  floats.value.resize(floats.key.size());
  kernels::read_rows(rows, floats.key.data(), floats.value.data());
  return floats;
}

void add_up(std::span<const Source> sources, const std::vector<float>& rows, std::span<double> sum) {
  std::fill(sum.begin(), sum.end(), -0.0);  // what leaves every number as it is, -0 too
  for (const Source& source : sources) {
    const float* row = rows.data() + size_t{source.row} * sum.size();
    for (size_t dim = 0; dim < sum.size(); ++dim) sum[dim] += double{source.weight} * double{row[dim]};
  }
}

// Makes the pages of one head's new rows out of its old ones.
class HeadBuilder {
 public:
  HeadBuilder(const PageLayout& layout, std::span<const Page> old_pages, std::span<const Page> pages,
              const kernels::HeadRows& old_rows, const HeadPlan& plan)
      : layout_(layout), old_pages_(old_pages), pages_(pages), old_rows_(old_rows), plan_(plan) {}

  void build() {
    for (uint32_t row = 0; row < plan_.rows(); ++row) {
      if (copies(row)) {
        copy(row, plan_.key[row][0].row);
      } else {
        merge(row);
      }
      layout_.bias(page(row))[slot(row)] = plan_.bias[row];
    }
  }

 private:
  const Page& page(uint32_t row) const { return pages_[row / kPageRows]; }
  static uint32_t slot(uint32_t row) { return row % kPageRows; }
  const Page& old_page(uint32_t row) const { return old_pages_[row / kPageRows]; }

  bool copies(uint32_t row) const {
    const auto key = plan_.key[row], value = plan_.value[row];
    const bool single = key.size() == 1 && value.size() == 1 && key[0].row == value[0].row && key[0].weight == 1.0F &&
                        value[0].weight == 1.0F && key[0].row == plan_.pivot[row];
    return single && (plan_.dense.empty() || plan_.dense[row] < 0);
  }

  void copy(uint32_t row, uint32_t from) { layout_.copy_row(old_page(from), slot(from), page(row), slot(row)); }

  void merge(uint32_t row) {
    if (floats_.key.empty()) floats_ = dequantise(old_rows_);
    std::vector<double> sum(layout_.head_dim);
    std::vector<float> key(layout_.head_dim), value(layout_.head_dim);
    add_up(plan_.key[row], floats_.key, sum);
    std::transform(sum.begin(), sum.end(), key.begin(), [](double x) { return static_cast<float>(x); });
    if (!plan_.dense.empty() && plan_.dense[row] >= 0) {
      std::copy_n(plan_.dense_value.begin() + std::ptrdiff_t{plan_.dense[row]} * layout_.head_dim, layout_.head_dim,
                  value.begin());
    } else {
      add_up(plan_.value[row], floats_.value, sum);
      std::transform(sum.begin(), sum.end(), value.begin(), [](double x) { return static_cast<float>(x); });
    }
    kernels::write_rows(page(row).data, page(row).data + layout_.value, layout_.key_type, layout_.value_type,
                        layout_.head_dim, slot(row), 1, key.data(), value.data(), layout_.head_dim);
    fold_metadata(row);
  }

  void fold_metadata(uint32_t row) {
    const uint32_t pivot = plan_.pivot[row];
    layout_.pos(page(row))[slot(row)] = layout_.pos(old_page(pivot))[slot(pivot)];
    float mass = 0.0F;
    for (const Source& source : plan_.key[row]) mass += layout_.mass(old_page(source.row))[slot(source.row)];
    layout_.mass(page(row))[slot(row)] = mass;
    for (const Stat stat : {Stat::kSum, Stat::kWindow, Stat::kMax}) {
      float* to = layout_.stat(page(row), stat);
      if (!to) continue;
      for (const Source& source : plan_.key[row]) {
        const float from = layout_.stat(old_page(source.row), stat)[slot(source.row)];
        to[slot(row)] = stat == Stat::kMax ? std::max(to[slot(row)], from) : to[slot(row)] + from;
      }
    }
  }

  const PageLayout& layout_;
  const std::span<const Page> old_pages_, pages_;
  const kernels::HeadRows old_rows_;
  const HeadPlan& plan_;
  Floats floats_;
};

// Metadata of a head, in the arrays a view points to.
template <typename T, typename Get>
std::span<const T> gather(std::vector<std::vector<T>>& owner, uint32_t rows, const Get& get) {
  std::vector<T>& values = owner.emplace_back(rows);
  for (uint32_t row = 0; row < rows; ++row) values[row] = get(row);
  return values;
}

}  // namespace

Store::LayerData Store::view(uint32_t layer) const {
  LayerData data;
  data.view.index = layer;
  data.view.count = impl_->shape.layers;
  const PageLayout& layout = impl_->layout;
  for (uint32_t index = 0; index < impl_->shape.heads; ++index) {
    const Impl::Head& head = impl_->head(layer, index);
    Floats floats = dequantise(this->head(layer, index));
    HeadView view;
    view.key = {data.floats.emplace_back(std::move(floats.key)).data(), head.rows, layout.head_dim};
    view.value = {data.floats.emplace_back(std::move(floats.value)).data(), head.rows, layout.head_dim};
    const auto at = [&](auto* (PageLayout::*part)(const Page&) const) {
      return
          [&layout, &head, part](uint32_t row) { return (layout.*part)(head.pages[row / kPageRows])[row % kPageRows]; };
    };
    view.pos = gather(data.ints, head.rows, at(&PageLayout::pos));
    view.mass = gather(data.floats, head.rows, at(&PageLayout::mass));
    view.bias = gather(data.floats, head.rows, at(&PageLayout::bias));
    const auto stat = [&](Stat which) {
      if (!impl_->shape.stats[static_cast<size_t>(which)]) return std::span<const float>();
      return gather(data.floats, head.rows,
                    [&](uint32_t row) { return layout.stat(head.pages[row / kPageRows], which)[row % kPageRows]; });
    };
    view.attn_sum = stat(Stat::kSum);
    view.attn_win = stat(Stat::kWindow);
    view.attn_max = stat(Stat::kMax);
    data.view.heads.push_back(view);
  }
  return data;
}

void Store::apply(uint32_t layer, const LayerPlan& plan) {
  const LayerData data = view(layer);
  validate(plan, data.view);
  std::vector<uint32_t> changed;
  size_t wanted = 0;
  for (uint32_t index = 0; index < plan.size(); ++index) {
    if (is_identity(plan[index], data.view.heads[index])) continue;
    changed.push_back(index);
    wanted += pages_for(plan[index].rows());
  }
  TakenPages taken(impl_->pool, wanted);
  std::vector<Impl::Head> fresh(changed.size());
  std::span<const Page> rest(taken.pages);
  for (size_t which = 0; which < changed.size(); ++which) {
    const uint32_t index = changed[which];
    const auto pages = rest.first(pages_for(plan[index].rows()));
    rest = rest.subspan(pages.size());
    HeadBuilder(impl_->layout, impl_->head(layer, index).pages, pages, head(layer, index), plan[index]).build();
    impl_->add_pages(fresh[which], pages);
    fresh[which].rows = plan[index].rows();
  }
  taken.pages.clear();  // they belong to the heads from here on, and nothing below throws
  for (size_t which = 0; which < changed.size(); ++which) {
    impl_->applied_end = std::max(impl_->applied_end, data.view.heads[changed[which]].pos.back() + 1);
    std::swap(impl_->head(layer, changed[which]), fresh[which]);
    impl_->pool.give_back(fresh[which].pages);
  }
}

}  // namespace kvmerger::kv
