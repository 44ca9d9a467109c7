// A library whose allocations are its own calls.
#include <dlfcn.h>
#include <sys/mman.h>

#include <cstdlib>

#define FIXTURE_EXPORT extern "C" __attribute__((visibility("default")))

FIXTURE_EXPORT void* fixture_malloc(size_t size) {
  return malloc(size);
}
FIXTURE_EXPORT void fixture_free(void* block) {
  free(block);
}
FIXTURE_EXPORT void* fixture_map(size_t size) {
  return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
FIXTURE_EXPORT void* fixture_load(const char* path) {
  return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}
