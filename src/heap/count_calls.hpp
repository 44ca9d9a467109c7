// The calls that take the place of malloc and its kin.
#pragma once

#include <cstddef>
#include <span>

#include "interpose/elf/patcher.hpp"

namespace weft::heap {

/// libc's own functions. Set before any route is in force; stay.
struct RealCalls {
  void* (*malloc)(size_t) noexcept;
  void* (*calloc)(size_t, size_t) noexcept;
  void* (*realloc)(void*, size_t) noexcept;
  void (*free)(void*) noexcept;
  void* (*aligned_alloc)(size_t, size_t) noexcept;
  void* (*memalign)(size_t, size_t) noexcept;
  int (*posix_memalign)(void**, size_t, size_t) noexcept;
  void* (*valloc)(size_t) noexcept;
  void* (*pvalloc)(size_t) noexcept;
  size_t (*malloc_usable_size)(void*) noexcept;
  void* (*mmap)(void*, size_t, int, int, int, long) noexcept;
  int (*munmap)(void*, size_t) noexcept;
  void* (*mremap)(void*, size_t, size_t, int, void*) noexcept;
};

/// Finds libc's functions, and whether the process allocates by them. Returns 0 or ENOTSUP.
int find_real_calls() noexcept;

/// Whether libc's own slots lead elsewhere already: to another copy of this code, or a tool like it.
/// REQUIRES: the caller's patcher is not in force.
bool counted_elsewhere() noexcept;

/// Each does what libc's does, errno included, and counts it; also after its slots have been put back, since
/// the program may keep its address. REQUIRES: find_real_calls() and prepare_slots() returned 0.
std::span<const engine::interpose::elf::Route> count_routes() noexcept;

}  // namespace weft::heap
