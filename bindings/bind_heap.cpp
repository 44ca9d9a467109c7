// How weft.heap asks for its figures.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cerrno>
#include <cstring>
#include <tuple>
#include <vector>

#include "python.hpp"
#include "weft/detail/heap_profile.hpp"
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

void begin_profile(size_t interval, uint64_t seed) {
  const int error = detail::heap_profile_begin(interval, seed);
  if (error == ENOTSUP)
    raise_error(PyExc_NotImplementedError,
                "weft.heap.Profile: only glibc's allocations can be sampled, and by one copy of Weft: run "
                "the program "
                "without a preloaded allocator or a sanitizer");
  if (error == EALREADY) raise_error(PyExc_RuntimeError, "weft.heap.Profile: another one is running");
  if (error == ENOMEM) throw std::bad_alloc();
  if (error) raise_errno(error);
}

/// ([(function, file, line, is Python)], live blocks, live bytes, made blocks, made bytes) of each stack.
nb::list profile_sites() {
  nb::list rows;
  const int error = detail::heap_profile_visit(
      [](void* list, const detail::HeapSite& site) {
        nb::list frames;
        for (size_t i = 0; i < site.frame_count; ++i) {
          const detail::HeapFrame& frame = site.frames[i];
          const auto text = [](const char* bytes) {
            return nb::steal(PyUnicode_DecodeUTF8(bytes, static_cast<Py_ssize_t>(strlen(bytes)), "replace"));
          };
          frames.append(nb::make_tuple(text(frame.function), text(frame.file), frame.line, frame.python));
        }
        static_cast<nb::list*>(list)->append(
            nb::make_tuple(frames, site.live_blocks, site.live_bytes, site.made_blocks, site.made_bytes));
      },
      &rows);
  if (error) throw std::bad_alloc();
  return rows;
}

void check_written(int error, const char* path) {
  if (error == 0) return;
  errno = error;
  PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
  throw nb::python_error();
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
  module.def("_heap_profile_begin", &begin_profile, nb::arg("interval"), nb::arg("seed"));
  module.def("_heap_profile_end", &detail::heap_profile_end);
  module.def(
      "_heap_profile_sites", &profile_sites,
      nb::sig("def _heap_profile_sites() -> list[tuple[list[tuple[str, str, int, bool]], float, float, "
              "float, float]]"));
  module.def(
      "_heap_profile_write_pprof",
      [](const char* path) { check_written(detail::heap_profile_write_pprof(path), path); }, nb::arg("path"));
  module.def(
      "_heap_profile_write_svg",
      [](const char* path, int measure, const char* title) {
        check_written(detail::heap_profile_write_svg(path, static_cast<detail::HeapMeasure>(measure), title),
                      path);
      },
      nb::arg("path"), nb::arg("measure"), nb::arg("title"));
}

}  // namespace weft::python
