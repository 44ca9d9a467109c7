// What the headers of weft::heap are made of. Promises nothing to programs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weft/detail/core.hpp"

namespace weft::detail {

/// Whose malloc() the process has. kOther: that of none whose figures are known.
enum class HeapOwner : uint8_t { kGlibc, kJemalloc, kMimalloc, kOther };

struct HeapFigures {
  uint64_t used = 0;    ///< bytes of allocations that lie in heaps
  uint64_t mapped = 0;  ///< bytes of allocations that have a mapping of their own
  uint64_t count = 0;   ///< heaps
};

struct HeapArena {
  uint64_t number = 0;
  uint64_t held = 0;  ///< bytes that it has from the kernel
  uint64_t used = 0;  ///< of these, in allocations
  uint64_t top = 0;   ///< of these, free at its end
};

WEFT_API HeapOwner heap_owner() noexcept;
/// Why there are no figures, and what to do about it; "" where there are. Stays as it is.
WEFT_API const char* heap_refusal() noexcept;
/// Is that because the allocator was replaced half-way, so that no figure of it would be right?
WEFT_API bool heap_is_split() noexcept;
/// ENOTSUP: see heap_refusal(). Else 0.
WEFT_API int heap_figures(HeapFigures& figures) noexcept;
/// ENOTSUP, or 0; `released`: has anything been given back, as far as the owner tells.
WEFT_API int heap_trim(bool& released) noexcept;
/// Fills in `room` at most, and sets `count` to how many there are. ENOTSUP, ENOMEM, or 0.
WEFT_API int heap_arenas(HeapArena* arenas, size_t room, size_t& count) noexcept;

/// What CPython's own allocator has of the heap and of mappings.
struct InterpreterHeap {
  char name[32] = "";        ///< "pymalloc", "malloc", "pymalloc_debug", "mimalloc", ...
  bool known = false;        ///< are the rest of these figures, and not only zeros?
  uint64_t used = 0;         ///< bytes in blocks of up to 512 bytes
  uint64_t blocks = 0;       ///< their number
  uint64_t held = 0;         ///< bytes of its arenas
  uint64_t arenas = 0;       ///< their number
  uint64_t other_heaps = 0;  ///< of other interpreters in the process, not in these figures
};
/// ENOTSUP: there is no CPython that can be asked. ENOMEM, or 0. REQUIRES: the GIL.
WEFT_API int interpreter_heap(InterpreterHeap& heap) noexcept;

}  // namespace weft::detail
