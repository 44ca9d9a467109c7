// What the bindings share: how a wait lets other threads run, and how it ends.
#pragma once

#include <Python.h>
#include <nanobind/nanobind.h>

#include <optional>

#include "weft/detail/core.hpp"
#include "weft/detail/interpreter.hpp"

namespace weft::python {

namespace nb = nanobind;
using detail::Nanos;
using detail::Outcome;

/// weft.Cancelled, weft.Timeout, weft.Closed; borrowed, as long as the module lives.
struct Exceptions {
  PyObject* cancelled = nullptr;
  PyObject* timeout = nullptr;
  PyObject* closed = nullptr;
};
extern Exceptions exceptions;

/// Starts the runtime at the first call. Raises RuntimeError where it cannot be had, or after finalisation
/// has begun.
void ensure_runtime();
/// The same on the main thread, whose waits can be interrupted then; elsewhere nothing.
void ensure_runtime_on_main();

[[noreturn]] void raise_error(PyObject* type, const char* text);
inline constexpr const char* kShuttingDown = "weft: the interpreter is shutting down";

/// Is the interpreter about to end? Then nobody who lets the GIL go gets it back.
bool finalizing() noexcept;
/// Takes the GIL. While the interpreter ends CPython up to 3.13 ends the thread instead, by unwinding, which
/// neither nanobind nor a destructor survives: this stays, for ever, as 3.14 does.
void take_gil(PyThreadState* state) noexcept;

/// Lets the GIL go, while it lives.
class Released {
 public:
  Released() noexcept : state_(PyEval_SaveThread()) {}
  ~Released() { take_gil(state_); }
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;

 private:
  PyThreadState* state_;
};

/// Calls wait() without the GIL until it ends otherwise than by a signal; runs Python's signal handlers in
/// between. Throws nb::python_error if one raises, and where the interpreter is about to end.
template <typename Wait>
Outcome blocking(Wait&& wait) {
  for (;;) {
    if (finalizing()) raise_error(PyExc_RuntimeError, kShuttingDown);
    Outcome outcome;
    {
      Released released;
      detail::Interruptible interruptible;
      outcome = wait();
    }
    if (outcome != Outcome::kInterrupted) return outcome;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
  }
}

/// Raises what the outcome stands for: Cancelled, Timeout (of a scope), Closed, MemoryError. Not for
/// kTimeout.
void raise_outcome(Outcome outcome);
/// Raises the OSError of that number.
[[noreturn]] void raise_errno(int number);

/// A time that a program gave, looked at by deadline_of() only: so its errors are the same everywhere.
struct Seconds {
  double value = 0;
  PyTypeObject* wrong = nullptr;  // borrowed; the type of what is no number
  bool too_large = false;         // for a double
};

/// Seconds from now; none: never. Raises ValueError for NaN, TypeError for what is no number, OverflowError
/// for one that no double holds. Negative: 0.
Nanos deadline_of(const std::optional<Seconds>& seconds);

/// The exception that is set, which is not any more; null: none.
PyObject* take_exception() noexcept;
/// Raises an instance.
void set_exception(PyObject* exception) noexcept;
/// Calls in a copied context of contextvars. Returns the result; null: `*error` has what was raised.
PyObject* call_in_context(PyObject* context, PyObject* function, PyObject* arguments, PyObject* keywords,
                          PyObject** error);
/// A file's descriptor: of an int, or what has fileno().
int descriptor_of(nb::handle file);

/// Has weft.Cancelled and weft.Timeout raised by calls of libc that were ended. Idempotent. And the reverse.
void install_delivery();
void remove_delivery();
/// Has waits for locks raise them, and those of what is made of locks. Idempotent. And the reverse.
void wrap_lock_waits();
void unwrap_lock_waits() noexcept;
/// The thread state is about to go.
void forget_tracers(PyThreadState* state) noexcept;
/// In a new fiber that has the GIL: installs what threading.settrace() and setprofile() were given.
void follow_tracers() noexcept;
/// At the end of a fiber that has the GIL, and a thread state of its own: gives both away.
void leave_interpreter() noexcept;

/// What is known of `threading`: its names, and of those _active, the objects of threads by their numbers.
void set_threading(nb::handle names, nb::handle threads);
/// Once before threads that threading does not know run Python: learns what it knows, and gives it a better
/// name for those. ensure_runtime() does it.
void introduce_to_threading();

void add_fibers(nb::module_& module);
void add_scopes(nb::module_& module);
void add_channels(nb::module_& module);
void add_actors(nb::module_& module);
void add_actor_supervision(nb::module_& module);
void add_actor_futures(nb::module_& module);
void add_actor_proxies(nb::module_& module);
void add_actor_values(nb::module_& module);
void add_remote_actors(nb::module_& module);
void add_processes(nb::module_& module);
void add_probes(nb::module_& module);
void add_readiness(nb::module_& module);
void add_heap(nb::module_& module);
void add_leaks(nb::module_& module);
void add_patch(nb::module_& module);
/// Makes functions and types known as the package's. After all others. Idempotent.
void publish(nb::handle module);

}  // namespace weft::python

template <>
struct nanobind::detail::type_caster<weft::python::Seconds> {
  NB_TYPE_CASTER(weft::python::Seconds, const_name("float"))

  bool from_python(handle source, uint32_t, cleanup_list*) noexcept {
    value = {.value = PyFloat_AsDouble(source.ptr())};
    if (value.value == -1 && PyErr_Occurred()) {
      value.too_large = PyErr_ExceptionMatches(PyExc_OverflowError);
      if (!value.too_large) value.wrong = Py_TYPE(source.ptr());
      PyErr_Clear();
    }
    return true;
  }
};
