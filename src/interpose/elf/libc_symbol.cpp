#include "interpose/elf/libc_symbol.hpp"

#include <dlfcn.h>

#include <atomic>

namespace weft::engine::interpose::elf {

void* libc_symbol(const char* name) noexcept {
  // libc is never unloaded, so the handle stays good; two first callers store the same one.
  static constinit std::atomic<void*> libc{nullptr};
  void* handle = libc.load(std::memory_order_acquire);
  if (!handle) {
    handle = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_LAZY);
    if (!handle) return nullptr;
    libc.store(handle, std::memory_order_release);
  }
  return dlsym(handle, name);
}

}  // namespace weft::engine::interpose::elf
