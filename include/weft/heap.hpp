// What the process's allocator holds, as it tells itself: bytes in use, mapped, free but held.
#pragma once

#include <cerrno>
#include <new>
#include <stdexcept>
#include <vector>

#include "weft/detail/heap.hpp"

namespace weft::heap {

/// Whose malloc() the process has: that of a library that is preloaded or linked, or glibc's. It is bound
/// when the program is loaded; a library that comes later, by dlopen(), does not change it.
enum class Allocator { kGlibc, kJemalloc, kMimalloc };

/// The process's allocator is none whose figures are known, or it was replaced only in part. The text names
/// its file, and what to do.
class NotSupported : public std::runtime_error {
 public:
  explicit NotSupported(const char* why) : std::runtime_error(why) {}
};

/// Bytes in blocks, as of now, and the number of arenas.
///
/// glibc: of all arenas, with the blocks' headers, and with freed blocks that threads keep for themselves (up
/// to seven of a size, up to 1,032 bytes). jemalloc: of all arenas, without such. mimalloc: of the calling
/// OS thread only, since it tells of no other.
struct Info {
  /// In blocks that lie in arenas. jemalloc and mimalloc: in all blocks.
  size_t heap_used = 0;
  /// glibc: in blocks that have a mapping of their own, those beyond 128 KiB at first. Others: 0.
  size_t mmap_used = 0;
  /// Arenas. mimalloc: 1.
  size_t heap_count = 0;
};

/// A part of the heap that has a lock of its own; threads are spread over them.
struct Arena {
  size_t number = 0;  ///< 0: with glibc the main one
  size_t held = 0;    ///< from the kernel, used or not
  size_t used = 0;    ///< in blocks, as Info::heap_used counts them
  size_t top = 0;     ///< free at its end; 0 where that is not told
  /// Free, held, and between blocks: of use only for blocks that fit.
  size_t fragmented() const noexcept { return held > used + top ? held - used - top : 0; }
};

namespace detail {

inline void check(int error) {
  if (error == ENOMEM) throw std::bad_alloc();
  if (error) throw NotSupported(weft::detail::heap_refusal());
}

}  // namespace detail

/// Looked up at the first call. NotSupported.
inline Allocator allocator() {
  switch (weft::detail::heap_owner()) {
    case weft::detail::HeapOwner::kGlibc:
      return Allocator::kGlibc;
    case weft::detail::HeapOwner::kJemalloc:
      return Allocator::kJemalloc;
    case weft::detail::HeapOwner::kMimalloc:
      return Allocator::kMimalloc;
    case weft::detail::HeapOwner::kOther:
      break;
  }
  throw NotSupported(weft::detail::heap_refusal());
}

/// Takes the lock of each arena for a moment. Any thread or fiber; never parks. NotSupported.
inline Info info() {
  weft::detail::HeapFigures figures;
  detail::check(weft::detail::heap_figures(figures));
  return {figures.used, figures.mapped, figures.count};
}

/// Gives free memory back to the kernel: from the ends of the arenas, and whole pages between blocks. Was
/// there any? glibc also says so of pages between blocks that it has given back before; jemalloc and mimalloc
/// do not tell: true. Takes milliseconds where there is much. NotSupported.
inline bool trim() {
  bool released = false;
  detail::check(weft::detail::heap_trim(released));
  return released;
}

/// Each arena; with glibc the main one first, with mimalloc the calling thread's heap only. Allocates a few
/// KiB itself, which count. NotSupported, std::bad_alloc.
inline std::vector<Arena> arenas() {
  std::vector<weft::detail::HeapArena> rows(16);
  size_t count = 0;
  // There may be more by the second time.
  for (;;) {
    detail::check(weft::detail::heap_arenas(rows.data(), rows.size(), count));
    if (count <= rows.size()) break;
    rows.resize(2 * count);
  }
  std::vector<Arena> all;
  all.reserve(count);
  for (size_t i = 0; i < count; ++i) all.push_back({rows[i].number, rows[i].held, rows[i].used, rows[i].top});
  return all;
}

}  // namespace weft::heap
