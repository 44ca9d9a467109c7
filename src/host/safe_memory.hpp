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

/// How far what is read can be trusted to be there.
enum class Memory : bool {
  kForeign,  ///< may be gone, or be anything: read_memory()
  kOwn,      ///< of the calling thread, which holds the interpreter's lock: read as it is
};

inline bool copy_memory(Memory memory, uintptr_t address, void* out, size_t size) noexcept {
  if (memory == Memory::kForeign) return read_memory(address, out, size);
  __builtin_memcpy(out, reinterpret_cast<const void*>(address), size);
  return true;
}

namespace detail {
/// What read_memory() does where process_vm_readv is forbidden.
bool read_through_proc(uintptr_t address, void* out, size_t size) noexcept;
}  // namespace detail

}  // namespace weft::engine::host
