// Counting what the process allocates, by the calls it makes of malloc and its kin.
#pragma once

#include <cstdint>

#include "weft/detail/core.hpp"

namespace weft::detail {

/// What was allocated less what was freed. Only the difference of two is meant: what was allocated before
/// the counting began counts once it is freed.
struct HeapCounts {
  int64_t blocks = 0;  ///< by malloc(), calloc(), realloc(), aligned_alloc() and kin, and so by `new`
  int64_t bytes = 0;   ///< their usable sizes (malloc_usable_size)
  int64_t mappings =
      0;              ///< bytes, in whole pages, by mmap(), mremap(), munmap(); not what MAP_FIXED replaced
  uint64_t made = 0;  ///< blocks ever allocated; a realloc() that succeeds frees one and allocates one
};

/// Begins to count, for all threads; nests. Returns 0 or an errno; ENOTSUP: the process allocates by another
/// library than libc (jemalloc, a sanitizer), another copy of Weft in it counts, or slots cannot be written;
/// ENOMEM. Any thread; never suspends.
/// Not from a dl_iterate_phdr() callback.
WEFT_API int heap_count_begin() noexcept;

/// Ends what one heap_count_begin() began; the last one puts all slots back. As heap_count_begin().
WEFT_API void heap_count_end() noexcept;

/// The counts, exact as of all calls that have returned, and have done so before this one: of those that
/// other threads make meanwhile each is in it or not, blocks in a freed before they were made. What libraries
/// allocate that were loaded since the last look counts from this call on, or from their dlopen() on where
/// that is a routed call. As heap_count_begin(). A few ns a thread that ever allocated at the same time as
/// others.
WEFT_API HeapCounts heap_counts() noexcept;

}  // namespace weft::detail
