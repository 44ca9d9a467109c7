// jemalloc 5: mallctl(3). Its figures are of the last "epoch", which a write refreshes. Blocks that threads
// keep in their caches count as allocated there, but are told of besides: without them the figure is what the
// program has. Large blocks lie in the arenas, too, so none counts as mapped.
#include <cerrno>
#include <cstdio>

#include "heap/allocator.hpp"

namespace weft::heap {

namespace {

constexpr unsigned kAll = 4096;  // MALLCTL_ARENAS_ALL

// Set once, before anything here is called.
int (*g_mallctl)(const char* name, void* old, size_t* old_size, void* fresh, size_t fresh_size) = nullptr;

template <typename T>
bool read(const char* name, T& value) noexcept {
  size_t size = sizeof value;
  return g_mallctl(name, &value, &size, nullptr, 0) == 0 && size == sizeof value;
}

template <typename T>
bool read_of(unsigned arena, const char* format, T& value) noexcept {
  char name[64];
  snprintf(name, sizeof name, format, arena);
  return read(name, value);
}

bool refresh() noexcept {
  uint64_t epoch = 1;
  size_t size = sizeof epoch;
  return g_mallctl("epoch", &epoch, &size, &epoch, sizeof epoch) == 0;
}

bool read_used(unsigned arena, uint64_t& used) noexcept {
  size_t small = 0, large = 0, cached = 0;
  if (!read_of(arena, "stats.arenas.%u.small.allocated", small) ||
      !read_of(arena, "stats.arenas.%u.large.allocated", large) ||
      !read_of(arena, "stats.arenas.%u.tcache_bytes", cached))
    return false;
  // Other threads go on between the readings of one epoch.
  used = small + large > cached ? small + large - cached : 0;
  return true;
}

bool is_initialized(unsigned arena) noexcept {
  bool is = false;
  return read_of(arena, "arena.%u.initialized", is) && is;
}

int figures(HeapFigures& figures) noexcept {
  unsigned arenas = 0;
  figures = {};
  if (!refresh() || !read_used(kAll, figures.used) || !read("arenas.narenas", arenas)) return ENOTSUP;
  for (unsigned i = 0; i < arenas; ++i) figures.count += is_initialized(i);
  return 0;
}

int trim(bool& released) noexcept {
  g_mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
  char name[32];
  snprintf(name, sizeof name, "arena.%u.purge", kAll);
  released = g_mallctl(name, nullptr, nullptr, nullptr, 0) == 0;
  return released ? 0 : ENOTSUP;
}

int arenas(HeapArena* rows, size_t room, size_t& count) noexcept {
  unsigned arenas = 0;
  size_t page = 0;
  if (!refresh() || !read("arenas.narenas", arenas) || !read("arenas.page", page)) return ENOTSUP;
  count = 0;
  for (unsigned i = 0; i < arenas; ++i) {
    if (!is_initialized(i)) continue;
    HeapArena row{i, 0, 0, 0};
    size_t active = 0, dirty = 0;
    if (!read_used(i, row.used) || !read_of(i, "stats.arenas.%u.pactive", active) ||
        !read_of(i, "stats.arenas.%u.pdirty", dirty))
      return ENOTSUP;
    row.held = (active + dirty) * page;
    if (count < room) rows[count] = row;
    ++count;
  }
  return 0;
}

}  // namespace

AllocatorCalls jemalloc_calls(const void* base) noexcept {
  if (!find_call(base, "mallctl", g_mallctl)) return {};
  HeapFigures some;
  AllocatorCalls calls;
  calls.lacks = "is a jemalloc older than 5, or one that was built without statistics";
  return figures(some) == 0 ? AllocatorCalls{HeapOwner::kJemalloc, figures, trim, arenas} : calls;
}

}  // namespace weft::heap
