#include "kv/store.h"

#include <algorithm>

#include "core/error.h"
#include "kv/store_impl.h"

namespace kvmerger::kv {
namespace {

const StoreShape& checked(const StoreShape& shape) {
  const uint64_t heads = uint64_t{shape.layers} * shape.heads;
  if (heads == 0 || heads > (1U << 20) || shape.head_dim == 0 || shape.head_dim > 4096) {
    throw Error(cat("a cache of ", shape.layers, " layers x ", shape.heads, " heads x ", shape.head_dim, " cannot be"));
  }
  return shape;
}

}  // namespace

Store::Impl::Impl(const StoreShape& wanted)
    : shape(checked(wanted)), layout(shape), pool(layout.data_bytes, layout.side_bytes) {
  heads.resize(size_t{shape.layers} * shape.heads);
}

Store::Impl::Head& Store::Impl::head(uint32_t layer, uint32_t index) {
  KVM_CHECK(layer < shape.layers && index < shape.heads);
  return heads[size_t{layer} * shape.heads + index];
}

void Store::Impl::add_pages(Head& head, std::span<const Page> pages) const {
  for (const Page& page : pages) {
    head.pages.push_back(page);
    head.table.push_back(layout.view(page));
  }
}

void Store::Impl::cut_pages(Head& head, size_t keep) {
  if (head.pages.size() <= keep) return;
  pool.give_back(std::span(head.pages).subspan(keep));
  head.pages.resize(keep);
  head.table.resize(keep);
}

Store::Store(const StoreShape& shape) : impl_(std::make_unique<Impl>(shape)) {}
Store::~Store() = default;
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;

const StoreShape& Store::shape() const { return impl_->shape; }
uint32_t Store::rows(uint32_t layer, uint32_t head) const { return impl_->head(layer, head).rows; }

uint64_t Store::total_rows() const {
  uint64_t rows = 0;
  for (const Impl::Head& head : impl_->heads) rows += head.rows;
  return rows;
}

void Store::reserve(uint32_t count) {
  const auto missing = [&](const Impl::Head& head) {
    return pages_for(size_t{head.rows} + count) - std::min(head.pages.size(), pages_for(size_t{head.rows} + count));
  };
  size_t total = 0;
  for (const Impl::Head& head : impl_->heads) total += missing(head);
  TakenPages taken(impl_->pool, total);
  for (Impl::Head& head : impl_->heads) {
    head.pages.reserve(head.pages.size() + missing(head));
    head.table.reserve(head.table.size() + missing(head));
  }
  std::span<const Page> rest(taken.pages);
  for (Impl::Head& head : impl_->heads) {  // nothing throws from here on
    const size_t wanted = missing(head);
    impl_->add_pages(head, rest.first(wanted));
    rest = rest.subspan(wanted);
  }
  taken.pages.clear();
}

void Store::append(uint32_t layer, uint32_t index, uint32_t count, const float* key, const float* value, size_t stride,
                   int32_t first_pos) noexcept {
  Impl::Head& head = impl_->head(layer, index);
  const PageLayout& layout = impl_->layout;
  KVM_CHECK(pages_for(size_t{head.rows} + count) <= head.pages.size());
  for (uint32_t done = 0; done < count;) {
    const uint32_t slot = head.rows % kPageRows, some = std::min(kPageRows - slot, count - done);
    const Page& page = head.pages[head.rows / kPageRows];
    kernels::write_rows(page.data, page.data + layout.value, layout.key_type, layout.value_type, layout.head_dim, slot,
                        some, key + done * stride, value + done * stride, stride);
    for (uint32_t row = 0; row < some; ++row) {
      layout.bias(page)[slot + row] = 0.0F;
      layout.pos(page)[slot + row] = first_pos + static_cast<int32_t>(done + row);
      layout.mass(page)[slot + row] = 1.0F;
      for (const Stat stat : {Stat::kSum, Stat::kWindow, Stat::kMax}) {
        if (float* values = layout.stat(page, stat)) values[slot + row] = 0.0F;
      }
    }
    head.rows += some;
    done += some;
  }
}

kernels::HeadRows Store::head(uint32_t layer, uint32_t index) const {
  const Impl::Head& head = impl_->head(layer, index);
  const PageLayout& layout = impl_->layout;
  return {head.table.data(), head.rows, layout.head_dim, layout.key_type, layout.value_type};
}

void Store::add_stat(uint32_t layer, uint32_t index, Stat stat, std::span<const float> values) noexcept {
  Impl::Head& head = impl_->head(layer, index);
  KVM_CHECK(values.size() == head.rows && impl_->shape.stats[static_cast<size_t>(stat)]);
  for (uint32_t row = 0; row < head.rows; ++row) {
    float& kept = impl_->layout.stat(head.pages[row / kPageRows], stat)[row % kPageRows];
    kept = stat == Stat::kMax ? std::max(kept, values[row]) : kept + values[row];
  }
}

void Store::clear_stat(Stat stat) noexcept {
  for (Impl::Head& head : impl_->heads) {
    for (const Page& page : head.pages) {
      if (float* values = impl_->layout.stat(page, stat)) std::fill_n(values, kPageRows, 0.0F);
    }
  }
}

void Store::truncate(int32_t end) {
  bool cuts = false;
  for (const Impl::Head& head : impl_->heads) {
    const uint32_t last = head.rows - 1;
    cuts |= head.rows > 0 && impl_->layout.pos(head.pages[last / kPageRows])[last % kPageRows] >= end;
  }
  if (!cuts) return;
  if (end < impl_->applied_end) {
    throw Error(cat("the cache cannot be cut back to token ", end, ": its rows up to token ", impl_->applied_end,
                    " have been compacted together"));
  }
  for (Impl::Head& head : impl_->heads) {
    while (head.rows > 0) {
      const uint32_t last = head.rows - 1;
      const Page& page = head.pages[last / kPageRows];
      if (impl_->layout.pos(page)[last % kPageRows] < end) break;
      impl_->layout.bias(page)[last % kPageRows] = 0.0F;
      --head.rows;
    }
    if (head.rows > 0)
      head.table[(head.rows - 1) / kPageRows] = impl_->layout.view(head.pages[(head.rows - 1) / kPageRows]);
    impl_->cut_pages(head, pages_for(head.rows));
  }
}

void Store::shrink() {
  for (Impl::Head& head : impl_->heads) impl_->cut_pages(head, pages_for(head.rows));
}

StoreBytes Store::bytes() const {
  const PagePool& pool = impl_->pool;
  return {pool.used(), pool.peak(), pool.resident()};
}

void Store::set_limit_for_test(size_t bytes) { impl_->pool.set_limit_for_test(bytes); }

}  // namespace kvmerger::kv
