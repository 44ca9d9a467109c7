// Reading memory of this process that may not be there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::engine::host {

/// Copies `size` bytes at `address` to `out`. False, with `out` undefined, if not all of them can be read; a
/// bad address does no harm. Async-signal-safe, any thread. About 0.3 us.
bool read_memory(uintptr_t address, void* out, size_t size) noexcept;

template <typename Value>
bool read_memory(uintptr_t address, Value& out) noexcept {
  return read_memory(address, &out, sizeof out);
}

namespace detail {
/// What read_memory() does where process_vm_readv is forbidden.
bool read_through_proc(uintptr_t address, void* out, size_t size) noexcept;
}  // namespace detail

}  // namespace weft::engine::host
