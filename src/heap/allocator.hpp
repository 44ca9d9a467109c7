// Which allocator the process has, and its functions, found at run time.
#pragma once

#include "weft/detail/heap.hpp"

namespace weft::heap {

using weft::detail::HeapArena;
using weft::detail::HeapFigures;
using weft::detail::HeapOwner;

/// What an allocator is asked for. Each returns 0, ENOTSUP or ENOMEM.
struct AllocatorCalls {
  HeapOwner owner = HeapOwner::kOther;
  int (*figures)(HeapFigures& figures) noexcept = nullptr;
  int (*trim)(bool& released) noexcept = nullptr;
  int (*arenas)(HeapArena* arenas, size_t room, size_t& count) noexcept = nullptr;
  const char* lacks = nullptr;  ///< why an allocator that is theirs has no figures; static
};

// Empty where the object at `base`, which has malloc(), is not theirs. Each is called once.
AllocatorCalls glibc_calls(const void* base) noexcept;
AllocatorCalls jemalloc_calls(const void* base) noexcept;
AllocatorCalls mimalloc_calls(const void* base) noexcept;

/// Where the program's own calls of `name` end; null: nowhere.
void* meant_symbol(const char* name) noexcept;

/// The address of `name` in the object at `base`, as the program's own calls find it; else null.
void* symbol_of(const void* base, const char* name) noexcept;

/// symbol_of() as a function.
template <typename Function>
bool find_call(const void* base, const char* name, Function*& function) noexcept {
  function = reinterpret_cast<Function*>(symbol_of(base, name));
  return function != nullptr;
}

}  // namespace weft::heap
