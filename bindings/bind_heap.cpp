// How weft.heap asks for its figures.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cerrno>
#include <tuple>
#include <vector>

#include "python.hpp"
#include "weft/heap.hpp"

namespace weft::python {

namespace {

/// What `ask` returns; raises NotImplementedError where the allocator has no figures.
template <typename Ask>
auto supported(Ask&& ask) {
  try {
    return ask();
  } catch (const heap::NotSupported& error) {
    raise_error(PyExc_NotImplementedError, error.what());
  }
}

const char* allocator_name() {
  switch (supported(heap::allocator)) {
    case heap::Allocator::kGlibc:
      return "glibc";
    case heap::Allocator::kJemalloc:
      return "jemalloc";
    case heap::Allocator::kMimalloc:
      break;
  }
  return "mimalloc";
}

/// (name, known, used, blocks, held, arenas, other heaps)
auto python_heap() {
  detail::InterpreterHeap heap;
  const int error = detail::interpreter_heap(heap);
  if (error == ENOMEM) throw std::bad_alloc();
  if (error)
    raise_error(PyExc_NotImplementedError,
                "weft.heap: this Python does not tell of its allocator; sys._debugmallocstats() may");
  return nb::make_tuple(heap.name, heap.known, heap.used, heap.blocks, heap.held, heap.arenas,
                        heap.other_heaps);
}

}  // namespace

void add_heap(nb::module_& module) {
  using Row = std::tuple<size_t, size_t, size_t, size_t>;
  module.def("_heap_allocator", &allocator_name);
  module.def("_heap_figures", [] {
    const heap::Info info = supported(heap::info);
    return std::tuple(info.heap_used, info.mmap_used, info.heap_count);
  });
  module.def("_heap_trim", [] {
    return supported([] {
      Released released;
      return heap::trim();
    });
  });
  module.def("_heap_arenas", [] {
    std::vector<Row> rows;
    for (const heap::Arena& each : supported(heap::arenas))
      rows.emplace_back(each.number, each.held, each.used, each.top);
    return rows;
  });
  module.def("_python_heap", &python_heap);
}

}  // namespace weft::python
