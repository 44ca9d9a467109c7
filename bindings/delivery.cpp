// Raising weft.Cancelled and weft.Timeout out of the calls of others.
//
// A fiber that is cancelled inside sock.recv(), or inside a database driver, makes the C function there fail:
// with ECANCELED, or ETIMEDOUT. What it raises is an OSError, or an error of the driver's own, which programs
// expect and handle. So that exception is replaced, before any handler sees it, by one that they do not.
// Facts this rests on, for CPython 3.11 to 3.13 (Python/ceval.c):
//
// - The class in PyThreadState.async_exc is raised by the eval loop after the next call that returns, and at
//   jumps back: where the C function swallowed the error. take_gil() sees to that in 3.11 and 3.12; 3.13
//   wants a bit set in eval_breaker. And it says to what follows that something is to be raised.
// - Where the call raised instead, 3.11 calls the thread's trace function before it looks for a handler, if
//   c_tracefunc is set, and nothing else of tracing need be; 3.12 and 3.13 call the tools of sys.monitoring
//   that asked for RAISE. What fails there replaces the exception.
// - Where the C function calls Python code before it returns (a driver's codec or callback), it is raised
//   there, and the C function may put an error of its own in its place. So it is remembered in which frame,
//   and at which of its instructions, the call was made: what comes out of that is replaced, too.
// - In 3.11 and 3.12 async_exc must be consumed by the eval loop, lest all threads be slow for good: hence
//   the call of a Python function that does nothing.
#include <nanobind/nanobind.h>

#include <unordered_map>

#include "python.hpp"
#include "weft/detail/interpreter.hpp"

namespace weft::python {

namespace {

struct Tracers {
  Py_tracefunc trace = nullptr;
  Py_tracefunc profile = nullptr;
};

// Where a call was made that something is to come out of. The frame may be gone; it is only compared.
struct Place {
  PyFrameObject* frame = nullptr;
  int instruction = -1;

  bool operator==(const Place&) const = default;
};

// Guarded by the GIL. The tracers of threads that have something to be raised; the places of those where it
// may have been raised inside the call only.
std::unordered_map<PyThreadState*, Tracers>* g_tracers = nullptr;
std::unordered_map<PyThreadState*, Place>* g_places = nullptr;
PyObject* g_tick = nullptr;  // def tick(): pass
#if PY_VERSION_HEX >= 0x030c0000
int g_tool = -1;  // our number among the tools of sys.monitoring
#endif

bool pending(PyThreadState* state) noexcept {
  return state->async_exc &&
         (state->async_exc == exceptions.cancelled || state->async_exc == exceptions.timeout);
}

int on_trace(PyObject* object, PyFrameObject* frame, int what, PyObject* argument);
int on_profile(PyObject* object, PyFrameObject* frame, int what, PyObject* argument);

Place present_place() noexcept {
  PyFrameObject* frame = PyEval_GetFrame();
  return frame ? Place{frame, PyFrame_GetLasti(frame)} : Place{};
}

bool is_ours(PyObject* exception) noexcept {
  return PyErr_GivenExceptionMatches(exception, exceptions.cancelled) ||
         PyErr_GivenExceptionMatches(exception, exceptions.timeout);
}

// Nothing is pending: is `raised` to be replaced all the same? The type to put in its place, or null.
PyObject* due_here(PyThreadState* state, PyObject* raised) noexcept {
  const auto found = g_places->find(state);
  if (found == g_places->end() || found->second != present_place()) return nullptr;
  g_places->erase(found);
  if (is_ours(raised)) return nullptr;
  switch (detail::revocation()) {
    case Outcome::kCancelled:
      return exceptions.cancelled;
    case Outcome::kExpired:
      return exceptions.timeout;
    default:
      return nullptr;
  }
}

// Puts the thread's own tracers back, and returns them.
Tracers unwrap(PyThreadState* state) noexcept {
  Tracers own;
  if (const auto found = g_tracers->find(state); found != g_tracers->end()) {
    own = found->second;
    g_tracers->erase(found);
  }
  if (state->c_tracefunc == on_trace) state->c_tracefunc = own.trace;
  if (state->c_profilefunc == on_profile) state->c_profilefunc = own.profile;
  return own;
}

// Something of ours is about to be raised: at the place of the call that is the end of it.
Tracers settle(PyThreadState* state) noexcept {
  const auto found = g_places->find(state);
  if (found == g_places->end()) return unwrap(state);
  if (found->second != present_place()) return (*g_tracers)[state];
  g_places->erase(found);
  return unwrap(state);
}

void signal_eval_loop([[maybe_unused]] PyThreadState* state) noexcept {
#if PY_VERSION_HEX >= 0x030d0000
  constexpr uintptr_t kAsyncException = 8;  // _PY_ASYNC_EXCEPTION_BIT
  __atomic_fetch_or(&state->eval_breaker, kAsyncException, __ATOMIC_SEQ_CST);
#endif
}

// An instance of what is pending, which is not pending any more. Null: something else was raised instead.
PyObject* take(PyThreadState* state) noexcept {
#if PY_VERSION_HEX >= 0x030d0000
  PyObject* type = __atomic_exchange_n(&state->async_exc, static_cast<PyObject*>(nullptr), __ATOMIC_SEQ_CST);
  __atomic_fetch_and(&state->eval_breaker, ~uintptr_t{8}, __ATOMIC_SEQ_CST);
  PyObject* value = PyObject_CallNoArgs(type);
  Py_DECREF(type);
  return value;
#else
  if (PyObject* answer = PyObject_CallNoArgs(g_tick)) {
    Py_DECREF(answer);  // the eval loop had not been told yet
    PyObject* type = std::exchange(state->async_exc, nullptr);
    PyObject* value = PyObject_CallNoArgs(type ? type : exceptions.cancelled);
    Py_XDECREF(type);
    return value;
  }
  PyObject* value = take_exception();
  if (!is_ours(value) && state->async_exc) {  // KeyboardInterrupt came first
    set_exception(value);
    Py_DECREF(value);
    return nullptr;
  }
  PyException_SetTraceback(value, Py_None);
  return value;
#endif
}

// Calls a debugger's or profiler's function without having our exception raised in it.
int shielded(PyThreadState* state, Py_tracefunc function, PyObject* object, PyFrameObject* frame, int what,
             PyObject* argument) {
  if (!function) return 0;
  PyObject* type = std::exchange(state->async_exc, nullptr);
  const int result = function(object, frame, what, argument);
  if (state->async_exc) {
    Py_DECREF(type);
    return result;
  }
  state->async_exc = type;
  signal_eval_loop(state);
#if PY_VERSION_HEX < 0x030d0000
  PyEval_RestoreThread(PyEval_SaveThread());  // tells the eval loop again
#endif
  return result;
}

int on_profile(PyObject* object, PyFrameObject* frame, int what, PyObject* argument) {
  PyThreadState* state = PyThreadState_Get();
  if (pending(state)) return shielded(state, (*g_tracers)[state].profile, object, frame, what, argument);
  const Tracers own = g_places->contains(state) ? (*g_tracers)[state] : unwrap(state);
  return own.profile ? own.profile(object, frame, what, argument) : 0;
}

int on_trace(PyObject* object, PyFrameObject* frame, int what, PyObject* argument) {
  PyThreadState* state = PyThreadState_Get();
  PyObject* type = nullptr;
  if (!pending(state)) {
    if (what == PyTrace_EXCEPTION) type = due_here(state, PyTuple_GET_ITEM(argument, 1));
    if (!type) {
      const Tracers own = g_places->contains(state) ? (*g_tracers)[state] : unwrap(state);
      return own.trace ? own.trace(object, frame, what, argument) : 0;
    }
  } else if (what != PyTrace_EXCEPTION) {
    return shielded(state, (*g_tracers)[state].trace, object, frame, what, argument);
  }
  const Tracers own = settle(state);
  PyObject* value = type ? PyObject_CallNoArgs(type) : take(state);
  if (!value) return -1;
  PyObject* replaced = PyTuple_GET_ITEM(argument, 1);
  PyObject* traceback = PyTuple_GET_ITEM(argument, 2);
  PyException_SetContext(value, Py_NewRef(replaced));
  PyException_SetTraceback(value, traceback);
  if (own.trace) {
    PyObject* seen = PyTuple_Pack(3, reinterpret_cast<PyObject*>(Py_TYPE(value)), value, traceback);
    if (!seen || own.trace(object, frame, what, seen) < 0) {
      Py_XDECREF(seen);
      Py_DECREF(value);
      return -1;
    }
    Py_DECREF(seen);
  }
  PyErr_Restore(Py_NewRef(reinterpret_cast<PyObject*>(Py_TYPE(value))), value,
                traceback == Py_None ? nullptr : Py_NewRef(traceback));
  return -1;
}

#if PY_VERSION_HEX >= 0x030c0000
PyObject* on_raise(PyObject*, PyObject* const* arguments, Py_ssize_t) {
  PyThreadState* state = PyThreadState_Get();
  PyObject* type = nullptr;
  if (!pending(state)) [[likely]] {
    if (g_places->empty() || !(type = due_here(state, arguments[2]))) Py_RETURN_NONE;
  }
  settle(state);
  PyObject* replaced = arguments[2];
  PyObject* value = type ? PyObject_CallNoArgs(type) : take(state);
  if (!value) return nullptr;
  PyException_SetContext(value, Py_NewRef(replaced));
  if (PyObject* traceback = PyException_GetTraceback(replaced)) {
    PyException_SetTraceback(value, traceback);
    Py_DECREF(traceback);
  }
  PyErr_SetRaisedException(value);
  return nullptr;
}

PyMethodDef g_on_raise = {"on_raise", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&on_raise)),
                          METH_FASTCALL, ""};

// At the first use: a tool costs each exception that is raised some 40 ns a frame.
void ensure_tool() {
  if (g_tool >= 0) return;
  nb::object monitoring = nb::module_::import_("sys").attr("monitoring");
  nb::object raise = monitoring.attr("events").attr("RAISE");
  for (int number : {5, 4, 3}) {
    try {
      monitoring.attr("use_tool_id")(number, "weft");
    } catch (nb::python_error&) {
      continue;  // taken
    }
    nb::object callback = nb::steal(PyCFunction_New(&g_on_raise, nullptr));
    monitoring.attr("register_callback")(number, raise, callback);
    monitoring.attr("set_events")(number, raise);
    g_tool = number;
    return;
  }
}
#else
void ensure_tool() {}
#endif

PyThreadState* attached() noexcept {
#if PY_VERSION_HEX >= 0x030d0000
  return PyThreadState_GetUnchecked();
#else
  return _PyThreadState_UncheckedGet();
#endif
}

// REQUIRES: the GIL is held, by `state`.
void arm(PyThreadState* state, PyObject* type) {
  if (state->tracing) return;  // inside a tracer, which would be taken out
  try {
    ensure_tool();
  } catch (nb::python_error& error) {
    error.discard_as_unraisable("weft: sys.monitoring");
  }
  Py_INCREF(type);
#if PY_VERSION_HEX >= 0x030d0000
  PyObject* former = __atomic_exchange_n(&state->async_exc, type, __ATOMIC_SEQ_CST);
#else
  PyObject* former = std::exchange(state->async_exc, type);
#endif
  signal_eval_loop(state);
  Py_XDECREF(former);
  (*g_places)[state] = present_place();
  const bool wrap_trace =
      state->c_tracefunc != on_trace && (PY_VERSION_HEX < 0x030c0000 || state->c_tracefunc);
  const bool wrap_profile = state->c_profilefunc && state->c_profilefunc != on_profile;
  if (!wrap_trace && !wrap_profile) return;
  Tracers& own = (*g_tracers)[state];
  if (wrap_trace) own.trace = std::exchange(state->c_tracefunc, on_trace);
  if (wrap_profile) own.profile = std::exchange(state->c_profilefunc, on_profile);
}

void on_revocation(Outcome outcome) noexcept {
  PyThreadState* state = PyGILState_GetThisThreadState();
  if (!state || finalizing()) return;
  PyObject* type = outcome == Outcome::kExpired ? exceptions.timeout : exceptions.cancelled;
  const bool held = attached() == state;
  if (!held) take_gil(state);
  arm(state, type);
  if (!held) PyEval_SaveThread();
}

}  // namespace

void install_delivery() {
  if (g_tracers) return;
  g_tracers = new std::unordered_map<PyThreadState*, Tracers>;
  g_places = new std::unordered_map<PyThreadState*, Place>;
  nb::dict names;
  names["__builtins__"] = nb::borrow(PyEval_GetBuiltins());
  nb::object made = nb::steal(PyRun_String("def tick(): pass\n", Py_file_input, names.ptr(), names.ptr()));
  if (!made.is_valid()) throw nb::python_error();
  g_tick = nb::object(names["tick"]).release().ptr();
  detail::set_revocation_hook(&on_revocation);
}

void forget_tracers(PyThreadState* state) noexcept {
  if (g_tracers && !g_tracers->empty()) g_tracers->erase(state);
  if (g_places && !g_places->empty()) g_places->erase(state);
}

// Leaves no tool behind.
void remove_delivery() {
#if PY_VERSION_HEX >= 0x030c0000
  if (g_tool < 0) return;
  nb::object monitoring = nb::module_::import_("sys").attr("monitoring");
  monitoring.attr("set_events")(g_tool, 0);
  monitoring.attr("free_tool_id")(g_tool);
  g_tool = -1;
#endif
}

}  // namespace weft::python
