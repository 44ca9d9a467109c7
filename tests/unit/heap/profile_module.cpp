// The profiler for check_profile.py, which calls it by ctypes.
#include <cstdlib>

#include "weft/detail/heap_count.hpp"
#include "weft/detail/heap_profile.hpp"

#define MODULE_EXPORT extern "C" __attribute__((visibility("default")))

using namespace weft::detail;

MODULE_EXPORT int module_begin(size_t interval) {
  return heap_profile_begin(interval, 42);
}
MODULE_EXPORT void module_end() {
  heap_profile_end();
}
MODULE_EXPORT int module_pprof(const char* path) {
  return heap_profile_write_pprof(path);
}
MODULE_EXPORT int module_svg(const char* path, const char* title) {
  return heap_profile_write_svg(path, HeapMeasure::kLiveBytes, title);
}
MODULE_EXPORT void* module_allocate(size_t size) {
  void* block = malloc(size);
  asm volatile("" : "+r"(block));
  return block;
}
MODULE_EXPORT int64_t module_blocks() {
  return heap_counts().blocks;
}
