// An allocator that stands before libc's, as jemalloc would.
#include <cstddef>

#define FIXTURE_EXPORT extern "C" __attribute__((visibility("default")))

extern "C" void* __libc_malloc(size_t size);
extern "C" void __libc_free(void* block);

FIXTURE_EXPORT void* malloc(size_t size) {
  return __libc_malloc(size);
}
FIXTURE_EXPORT void free(void* block) {
  __libc_free(block);
}
