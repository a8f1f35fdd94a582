// The raw form of a store for snapshots. Unused slots are written as zeros, so that the bytes depend on the rows alone.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kv/store.h"
#include "kv/store_impl.h"

namespace kvmerger::kv {
namespace {

constexpr size_t kPagesAtOnce = 64;  // read before more are taken, so that a wrong count ends at the end of the file

}  // namespace

void Store::save(const std::function<void(const void*, size_t)>& sink) const {
  sink(&impl_->applied_end, sizeof impl_->applied_end);
  const PageLayout& layout = impl_->layout;
  const auto write = [&](const Page& page) {
    sink(page.data, layout.data_bytes);
    sink(page.side, layout.side_bytes);
  };
  for (const Impl::Head& head : impl_->heads) {
    sink(&head.rows, sizeof head.rows);
    const uint32_t full = head.rows / kPageRows, rest = head.rows % kPageRows;
    for (uint32_t page = 0; page < full; ++page) write(head.pages[page]);
    if (rest == 0) continue;
    std::vector<std::byte> data(layout.data_bytes), side(layout.side_bytes);  // only the rows there are
    const Page last{data.data(), side.data()};
    for (uint32_t row = 0; row < rest; ++row) layout.copy_row(head.pages[full], row, last, row);
    write(last);
  }
}

void Store::load(const std::function<void(void*, size_t)>& source) {
  KVM_CHECK(total_rows() == 0);
  shrink();  // below, a head's pages are those already read
  source(&impl_->applied_end, sizeof impl_->applied_end);
  for (Impl::Head& head : impl_->heads) {
    uint32_t rows = 0;
    source(&rows, sizeof rows);
    while (head.pages.size() < pages_for(rows)) {
      const std::vector<Page> pages = impl_->pool.take(std::min(kPagesAtOnce, pages_for(rows) - head.pages.size()));
      const size_t first = head.pages.size();
      head.pages.insert(head.pages.end(), pages.begin(), pages.end());
      for (const Page& page : pages) {
        source(page.data, impl_->layout.data_bytes);
        source(page.side, impl_->layout.side_bytes);
      }
      for (size_t page = first; page < head.pages.size(); ++page)
        head.table.push_back(impl_->layout.view(head.pages[page]));
    }
    head.rows = rows;
    for (uint32_t row = 1; row < rows; ++row) {
      const auto pos = [&](uint32_t at) { return impl_->layout.pos(head.pages[at / kPageRows])[at % kPageRows]; };
      if (pos(row) <= pos(row - 1)) throw Error("the cache's positions do not increase");
    }
  }
}

Store Store::copy() const {
  Store copy(impl_->shape);
  std::vector<std::byte> bytes;
  save([&](const void* data, size_t size) {
    bytes.resize(bytes.size() + size);
    std::memcpy(bytes.data() + bytes.size() - size, data, size);
  });
  size_t at = 0;
  copy.load([&](void* to, size_t size) {
    std::memcpy(to, bytes.data() + at, size);
    at += size;
  });
  return copy;
}

}  // namespace kvmerger::kv
