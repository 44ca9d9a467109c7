// CPython's own allocator tells of itself in words only: _PyObject_DebugMallocStats(), which
// sys._debugmallocstats() calls. Its table of size classes has the blocks in use, its totals the bytes ("#
// bytes in allocated blocks = 1,024").
#include <dlfcn.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "heap/line_stream.hpp"
#include "host/python.hpp"
#include "weft/detail/heap.hpp"

namespace weft::heap {

namespace {

using weft::detail::InterpreterHeap;

// The number behind `=`, in groups of three.
uint64_t total_of(const char* line) noexcept {
  const char* at = strchr(line, '=');
  uint64_t number = 0;
  for (; at && *at; ++at)
    if (*at >= '0' && *at <= '9') number = number * 10 + static_cast<uint64_t>(*at - '0');
  return number;
}

void take_line(void* who, const char* line) noexcept {
  auto& heap = *static_cast<InterpreterHeap*>(who);
  unsigned size_class = 0, size = 0;
  unsigned long long pools = 0, used = 0, free_blocks = 0;
  if (strncmp(line, "# arenas allocated current", 26) == 0) {
    heap.arenas = total_of(line);
    heap.known = true;
  }
  if (strstr(line, " bytes/arena"))
    heap.held = total_of(line);
  else if (strncmp(line, "# bytes in allocated blocks", 27) == 0)
    heap.used = total_of(line);
  else if (sscanf(line, "%u %u %llu %llu %llu", &size_class, &size, &pools, &used, &free_blocks) == 5)
    heap.blocks += used;
}

}  // namespace

}  // namespace weft::heap

namespace weft::detail {

int interpreter_heap(InterpreterHeap& heap) noexcept {
  const auto* const python = engine::host::Python::find();
  if (!python) return ENOTSUP;
  // An interpreter that is a library of somebody's is not where the program's own names are found.
  void* const library = dlopen(python->object_path(), RTLD_LAZY | RTLD_NOLOAD);
  const auto find = [library](const char* name, auto& function) {
    void* address = library ? dlsym(library, name) : nullptr;
    if (!address) address = dlsym(RTLD_DEFAULT, name);
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
    return address != nullptr;
  };
  int (*tell)(FILE*) = nullptr;
  const char* (*name)() = nullptr;
  void* (*first)() = nullptr;
  void* (*next)(void*) = nullptr;
  const bool found = find("_PyObject_DebugMallocStats", tell) &&
                     find("_PyMem_GetCurrentAllocatorName", name) && find("PyInterpreterState_Head", first) &&
                     find("PyInterpreterState_Next", next);
  if (library) dlclose(library);  // counted: the interpreter stays
  if (!found) return ENOTSUP;
  heap = {};
  const char* const known_name = name();
  strncpy(heap.name, known_name ? known_name : "", sizeof heap.name - 1);
  if (python->at_least(3, 12))  // before, all share one
    for (void* each = next(first()); each; each = next(each)) ++heap.other_heaps;
  if (strncmp(heap.name, "malloc", 6) == 0) {
    heap.known = true;
    return 0;
  }
  if (python->free_threaded()) return 0;
  const heap::LineStream stream(&heap, heap::take_line);  // hands on the last lines as it ends
  if (!stream.file()) return ENOMEM;
  tell(stream.file());
  return 0;
}

}  // namespace weft::detail
