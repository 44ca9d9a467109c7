#include <cxxabi.h>
#include <nanobind/nanobind.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "python.hpp"
#include "weft/detail/interpreter.hpp"
#include "weft/patch.hpp"
#include "weft/runtime.hpp"

namespace weft::python {

Exceptions exceptions;

namespace {

bool g_started = false;
bool g_shut_down = false;

}  // namespace

void introduce_to_threading() {
  static bool done = false;  // guarded by the GIL
  if (std::exchange(done, true)) return;
  nb::module_ start = nb::module_::import_("weft._threads");
  nb::object names = start.attr("introduce")();
  nb::object threads = names["_active"];
  set_threading(names.release(), threads.release());
}

void ensure_runtime() {
  if (g_started && !g_shut_down) [[likely]]
    return;
  if (g_shut_down) raise_error(PyExc_RuntimeError, kShuttingDown);
  if (const int error = detail::start_for_interpreter()) {
    if (error == EPERM)
      raise_error(PyExc_RuntimeError,
                  "weft: the first use must be on the main thread, which then runs the fibers: call "
                  "weft.start() there");
    raise_errno(error);
  }
  g_started = true;
  install_delivery();
  if (detail::runs_under_weft()) wrap_lock_waits();
  introduce_to_threading();
}

void ensure_runtime_on_main() {
  if (!g_started && !g_shut_down && getpid() == gettid()) ensure_runtime();
}

bool finalizing() noexcept {
#if PY_VERSION_HEX >= 0x030d0000
  return Py_IsFinalizing();
#else
  return _Py_IsFinalizing();
#endif
}

void take_gil(PyThreadState* state) noexcept {
  try {
    PyEval_RestoreThread(state);
  } catch (abi::__forced_unwind&) {
    detail::stay();
  }
}

void raise_error(PyObject* type, const char* text) {
  PyErr_SetString(type, text);
  throw nb::python_error();
}

void raise_errno(int number) {
  errno = number;
  PyErr_SetFromErrno(PyExc_OSError);
  throw nb::python_error();
}

void set_exception(PyObject* exception) noexcept {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception)), exception);
}

PyObject* call_in_context(PyObject* context, PyObject* function, PyObject* arguments, PyObject* keywords,
                          PyObject** error) {
  PyObject* result = nullptr;
  if (PyContext_Enter(context) == 0) {
    result = PyObject_Call(function, arguments, keywords);
    if (!result) *error = take_exception();
    if (PyContext_Exit(context) != 0) PyErr_Clear();
  } else {
    *error = take_exception();
  }
  return result;
}

int descriptor_of(nb::handle file) {
  const int descriptor = PyObject_AsFileDescriptor(file.ptr());
  if (descriptor < 0) throw nb::python_error();
  return descriptor;
}

void raise_outcome(Outcome outcome) {
  switch (outcome) {
    case Outcome::kReady:
    case Outcome::kTimeout:
    case Outcome::kInterrupted:
      return;
    case Outcome::kCancelled:
      raise_error(exceptions.cancelled, "the fiber was cancelled");
    case Outcome::kExpired:
      raise_error(exceptions.timeout, "the time is up");
    case Outcome::kClosed:
      raise_error(exceptions.closed, "the channel is closed");
    case Outcome::kNoMemory:
      throw std::bad_alloc();
    case Outcome::kSelf:
      raise_error(PyExc_RuntimeError, "a fiber cannot wait for its own end");
  }
}

Nanos deadline_of(const std::optional<Seconds>& seconds) {
  if (!seconds) return detail::kNever;
  if (seconds->wrong) {
    PyErr_Format(PyExc_TypeError, "a time in seconds must be a number, not %.100s", seconds->wrong->tp_name);
    throw nb::python_error();
  }
  if (seconds->too_large)
    raise_error(PyExc_OverflowError,
                "a time in seconds is too large for a float: float('inf') is without end");
  if (std::isnan(seconds->value)) raise_error(PyExc_ValueError, "a time in seconds must not be NaN");
  if (seconds->value <= 0) return detail::now();
  return detail::deadline_after(std::chrono::duration<double>(seconds->value));
}

PyObject* take_exception() noexcept {
#if PY_VERSION_HEX >= 0x030c0000
  return PyErr_GetRaisedException();
#else
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (!type) return nullptr;
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback) PyException_SetTraceback(value, traceback);
  Py_DECREF(type);
  Py_XDECREF(traceback);
  return value;
#endif
}

}  // namespace weft::python

NB_MODULE(_weft, m) {
  using namespace weft::python;
  nb::set_leak_warnings(false);  // an interpreter that ends with fibers parked leaves their objects behind
  if (strcmp(weft::detail::library_version(), WEFT_VERSION) != 0) {
    PyErr_Format(
        PyExc_ImportError,
        "weft %s was imported into a process that has weft %s loaded already: run it with that version's "
        "`weft run`, or install the same version of both",
        WEFT_VERSION, weft::detail::library_version());
    throw nb::python_error();
  }
  m.doc() = "The door onto libweft; import weft instead.";
  m.attr("__version__") = WEFT_VERSION;
  m.def("_set_exceptions", [](nb::object cancelled, nb::object timeout, nb::object closed) {
    exceptions = {cancelled.release().ptr(), timeout.release().ptr(), closed.release().ptr()};
  });
  m.def("_publish", [] { publish(nb::module_::import_("weft._weft")); });
  m.def(
      "start", [] { ensure_runtime(); },
      "Start the runtime on the calling thread, the main one, if it does not run yet.\n\nDone by the first "
      "use otherwise.");
  m.def("_shut_down", [] { g_shut_down = true; });
  m.def("_finalizing", &finalizing);
  m.def("running", &weft::Runtime::running, "Has the runtime started?");
  add_fibers(m);
  add_scopes(m);
  add_channels(m);
  add_actor_futures(m);
  add_actors(m);
  add_actor_supervision(m);
  add_actor_proxies(m);
  add_actor_values(m);
  add_remote_actors(m);
  add_processes(m);
  add_heap(m);
  add_leaks(m);
  add_patch(m);
}
