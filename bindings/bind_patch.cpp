// patch(), unpatch(), report().
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "python.hpp"
#include "weft/detail/interpreter.hpp"
#include "weft/patch.hpp"
#include "weft/runtime.hpp"

namespace weft::python {

namespace {

// Puts the number of the patch at the end of `numbers`: here, where no signal handler of Python's comes in
// between.
void enter_patch(uint32_t families, const std::vector<std::string>& libraries, nb::list numbers) {
  ensure_runtime();
  std::vector<const char*> names;
  for (const std::string& library : libraries) names.push_back(library.c_str());
  uint64_t id = 0;
  constexpr int kPythonThreads = 1;
  if (const int error = detail::patch({families, names.data(), names.size(), kPythonThreads}, &id))
    raise_errno(error);
  try {
    numbers.append(id);
  } catch (...) {
    detail::unpatch(id, detail::now());
    throw;
  }
  wrap_lock_waits();
}

void forget(nb::list numbers, uint64_t id) {
  for (size_t place = numbers.size(); place-- > 0;)
    if (nb::cast<uint64_t>(numbers[place]) == id) {
      nb::del(numbers[place]);
      return;
    }
}

// Takes back the last of `numbers`. The names of the fibers that stand for threads and have not ended by the
// deadline; empty: it is done.
std::vector<std::string> leave_patch(nb::list numbers, std::optional<Seconds> timeout) {
  const Nanos deadline = deadline_of(timeout);
  const auto id = nb::cast<uint64_t>(numbers[numbers.size() - 1]);
  int error;
  for (;;) {
    {
      Released released;
      detail::Interruptible interruptible;
      error = detail::unpatch(id, deadline);
    }
    if (error != EINTR) break;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
  }
  std::vector<std::string> names;
  if (error == ETIMEDOUT) {
    detail::visit_thread_fibers(
        [](void* list, uint64_t number, const char* name) {
          static_cast<std::vector<std::string>*>(list)->push_back(
              (*name ? std::string("'") + name + "' " : std::string()) + "#" + std::to_string(number));
        },
        &names);
    if (names.empty()) names.push_back("one that has just ended");
    return names;
  }
  if (error && error != EINVAL) raise_errno(error);
  forget(numbers, id);
  if (error) raise_error(PyExc_RuntimeError, "this patch was undone already");
  if (detail::patches() == 0 && !detail::runs_under_weft()) {
    remove_delivery();
    unwrap_lock_waits();
  }
  return names;
}

nb::dict counts() {
  const RuntimeReport report = Runtime::report();
  nb::dict all;
  all["patched"] = detail::patches() > 0 || detail::runs_under_weft();
  all["routed"] = detail::routed();
  all["running"] = Runtime::running();
  all["backend"] = report.backend ? nb::cast(report.backend) : nb::none();
  all["carriers"] = report.carriers;
  all["fibers_alive"] = report.fibers_alive;
  all["fibers_peak"] = report.fibers_peak;
  all["fibers_spawned"] = report.fibers_spawned;
  all["switches"] = report.switches;
  all["stalls"] = report.stalls;
  all["offload_threads"] = report.offload_threads;
  return all;
}

}  // namespace

void add_patch(nb::module_& m) {
  m.def("_enter_patch", &enter_patch);
  m.def("_leave_patch", &leave_patch, nb::arg("numbers"), nb::arg("timeout").none());
  m.def("_counts", &counts);
}

}  // namespace weft::python
