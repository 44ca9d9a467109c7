// mimalloc 2: each thread has a heap of its own, of which only the thread itself is told.
#include <cerrno>

#include "heap/allocator.hpp"

namespace weft::heap {

namespace {

// mi_heap_area_t, as far as all of 2.x have it.
struct Area {
  void* blocks;
  size_t reserved;
  size_t committed;
  size_t used;  // blocks
  size_t block_size;
};
using Visitor = bool(const void* heap, const Area* area, void* block, size_t size, void* row);

// Set once, before anything here is called.
struct {
  void* (*default_heap)();
  bool (*visit)(const void* heap, bool each_block, Visitor* visitor, void* argument);
  void (*collect_heap)(void* heap, bool force);
  void (*collect)(bool force);
} g_calls;

bool add_area(const void*, const Area* area, void*, size_t, void* argument) noexcept {
  auto& row = *static_cast<HeapArena*>(argument);
  row.used += uint64_t{area->used} * area->block_size;
  row.held += area->committed;
  return true;
}

bool read_heap(HeapArena& row) noexcept {
  void* const heap = g_calls.default_heap();
  // What other threads have freed of this one's blocks counts as used until it is collected.
  g_calls.collect_heap(heap, false);
  row = {};
  return g_calls.visit(heap, false, add_area, &row);
}

int figures(HeapFigures& figures) noexcept {
  HeapArena heap;
  if (!read_heap(heap)) return ENOTSUP;
  figures = {heap.used, 0, 1};
  return 0;
}

int trim(bool& released) noexcept {
  g_calls.collect(true);
  released = true;
  return 0;
}

int arenas(HeapArena* rows, size_t room, size_t& count) noexcept {
  HeapArena heap;
  if (!read_heap(heap)) return ENOTSUP;
  if (room > 0) rows[0] = heap;
  count = 1;
  return 0;
}

}  // namespace

AllocatorCalls mimalloc_calls(const void* base) noexcept {
  int (*version)() = nullptr;
  if (!find_call(base, "mi_version", version)) return {};
  AllocatorCalls calls;
  calls.lacks = "is a mimalloc whose figures are not known: version 2 has such";
  if (version() / 100 != 2 || !find_call(base, "mi_heap_get_default", g_calls.default_heap) ||
      !find_call(base, "mi_heap_visit_blocks", g_calls.visit) ||
      !find_call(base, "mi_heap_collect", g_calls.collect_heap) ||
      !find_call(base, "mi_collect", g_calls.collect))
    return calls;
  return {HeapOwner::kMimalloc, figures, trim, arenas};
}

}  // namespace weft::heap
