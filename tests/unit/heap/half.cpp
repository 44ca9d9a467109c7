// A library to preload that takes the place of malloc() and of nothing else.
#include <cstddef>

extern "C" void* __libc_malloc(size_t size);
extern "C" void* malloc(size_t size) {
  return __libc_malloc(size);
}
