// The store's inside, shared by store.cc (rows come and go one by one), store_apply.cc (a plan replaces them)
// and store_raw.cc.
#pragma once

#include <vector>

#include "kv/page_layout.h"
#include "kv/pool.h"
#include "kv/store.h"

namespace kvmerger::kv {

struct Store::Impl {
  struct Head {
    std::vector<Page> pages;
    std::vector<kernels::PageView> table;  // the same pages as kernels read them
    uint32_t rows = 0;
  };

  explicit Impl(const StoreShape& shape);

  Head& head(uint32_t layer, uint32_t index);
  void add_pages(Head& head, std::span<const Page> pages) const;
  // Gives back what lies behind the first `keep` pages.
  void cut_pages(Head& head, size_t keep);

  const StoreShape shape;
  const PageLayout layout;
  PagePool pool;
  std::vector<Head> heads;  // [layers * shape.heads]
  int32_t applied_end = 0;  // positions below were there at the last apply that changed something
};

// Pages that go back to the pool unless they have found an owner.
struct TakenPages {
  TakenPages(PagePool& from, size_t count) : pool(from), pages(from.take(count)) {}
  ~TakenPages() { pool.give_back(pages); }
  TakenPages(const TakenPages&) = delete;
  TakenPages& operator=(const TakenPages&) = delete;

  PagePool& pool;
  std::vector<Page> pages;
};

constexpr size_t pages_for(size_t rows) { return (rows + kPageRows - 1) / kPageRows; }

}  // namespace kvmerger::kv
