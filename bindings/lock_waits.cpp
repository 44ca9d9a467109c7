// Ending waits for threading.Lock, RLock, and all that is built of them: conditions, events, queues, futures.
//
// The interpreter's locks are semaphores, and a wait for one must not simply fail: `with lock:` enters its
// body all the same, for it does not look at what acquire() returned. So the methods that wait are wrapped,
// where their definitions point at the C functions: those they call wait for a very long time in place of for
// ever, and where the routed sem_clockwait() reports that time as over, because the fiber was cancelled or a
// scope expired, what is raised is that.
//
// Not ended are the waits of C code of its own: Thread.join() up to 3.12 (its lock must not be released by
// who was interrupted, but threading would; CPython issue 90882), the joins of 3.13, multiprocessing's locks.
#include <nanobind/nanobind.h>

#include "python.hpp"
#include "weft/detail/interpreter.hpp"

namespace weft::python {

namespace {

PyObject* g_at_once = nullptr;    // (False,)
PyObject* g_for_long = nullptr;   // (True, 1e9): 31 years
PyObject* g_join_code = nullptr;  // of Thread._wait_for_tstate_lock, up to 3.12

// The semaphore is the first member of these objects.
const void* semaphore_of(PyObject* lock) noexcept {
  return *reinterpret_cast<void**>(reinterpret_cast<char*>(lock) + sizeof(PyObject));
}

// What is shared here belongs to the main interpreter.
bool elsewhere() noexcept {
  return PyInterpreterState_Get() != PyInterpreterState_Main();
}

bool called_by_join() noexcept {
  if (!g_join_code) return false;
  PyFrameObject* frame = PyEval_GetFrame();
  if (!frame) return false;
  PyCodeObject* code = PyFrame_GetCode(frame);
  Py_DECREF(code);
  return reinterpret_cast<PyObject*>(code) == g_join_code;
}

// Raises Cancelled or Timeout in place of `result`.
PyObject* raise_instead(PyObject* result, Outcome outcome) noexcept {
  PyErr_Clear();
  Py_XDECREF(result);
  try {
    raise_outcome(outcome);
  } catch (nb::python_error& error) {
    error.restore();
  }
  return nullptr;
}

template <typename Call>
PyObject* revocable(const void* semaphore, Outcome& outcome, Call call) noexcept {
  struct Frame {
    Call& call;
    PyObject* result;
  } frame{call, nullptr};
  outcome = detail::with_revocable_semaphore(
      semaphore,
      [](void* argument) {
        auto& self = *static_cast<Frame*>(argument);
        self.result = self.call();
      },
      &frame);
  return frame.result;
}

enum class Blocking { kNo, kForSomeTime, kForEver };

// How lock.acquire(blocking=True, timeout=-1) is called; what is wrong with the arguments the wrapped
// function says.
Blocking blocking_of(PyObject* arguments, PyObject* keywords) noexcept {
  static const char* names[] = {"blocking", "timeout", nullptr};
  int blocking = 1;
  PyObject* timeout = nullptr;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|pO:acquire", const_cast<char**>(names), &blocking,
                                   &timeout)) {
    PyErr_Clear();
    return Blocking::kNo;
  }
  if (!blocking) return Blocking::kNo;
  if (!timeout) return Blocking::kForEver;
  const double seconds = PyFloat_AsDouble(timeout);
  if (PyErr_Occurred()) {
    PyErr_Clear();
    return Blocking::kNo;
  }
  return seconds == -1 ? Blocking::kForEver : Blocking::kForSomeTime;
}

PyObject* acquire(PyCFunctionWithKeywords wrapped, PyObject* self, PyObject* arguments, PyObject* keywords) {
  if (elsewhere()) return wrapped(self, arguments, keywords);
  const bool plain = PyTuple_GET_SIZE(arguments) == 0 && !keywords;
  const Blocking blocking = plain ? Blocking::kForEver : blocking_of(arguments, keywords);
  if (blocking == Blocking::kNo) return wrapped(self, arguments, keywords);
  Outcome outcome;
  if (blocking == Blocking::kForSomeTime) {
    if (called_by_join()) return wrapped(self, arguments, keywords);
    PyObject* result =
        revocable(semaphore_of(self), outcome, [&] { return wrapped(self, arguments, keywords); });
    return result == Py_False && outcome != Outcome::kReady ? raise_instead(result, outcome) : result;
  }
  PyObject* result = wrapped(self, g_at_once, nullptr);
  if (result != Py_False) return result;
  Py_DECREF(result);
  if (called_by_join()) return wrapped(self, arguments, keywords);
  do {
    result = revocable(semaphore_of(self), outcome, [&] { return wrapped(self, g_for_long, nullptr); });
    if (result != Py_False) return result;
    Py_DECREF(result);
  } while (outcome == Outcome::kReady);
  return raise_instead(nullptr, outcome);
}

// What is wrapped. One function for each: nothing else tells it what it wraps.
struct Wrapped {
  PyMethodDef* definition = nullptr;  // null: not as expected
  PyCFunction function = nullptr;
  PyCFunction wrapper = nullptr;
};
enum { kLockAcquire, kLockAcquireLock, kLockEnter, kRLockAcquire, kRLockEnter, kQueueGet, kWrapped };
Wrapped g_wrapped[kWrapped];

template <int kIndex>
PyObject* acquire_by(PyObject* self, PyObject* arguments, PyObject* keywords) {
  const auto wrapped =
      reinterpret_cast<PyCFunctionWithKeywords>(reinterpret_cast<void*>(g_wrapped[kIndex].function));
  return acquire(wrapped, self, arguments, keywords);
}

// How SimpleQueue.get(block=True, timeout=None) is called, its arguments as METH_FASTCALL passes them.
Blocking blocking_of(PyObject* const* arguments, Py_ssize_t count, PyObject* names) noexcept {
  PyObject* given[2] = {Py_True, Py_None};
  for (Py_ssize_t i = 0; i < count && i < 2; ++i) given[i] = arguments[i];
  for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); ++i)
    given[PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), "timeout") == 0] =
        arguments[count + i];
  const int blocking = PyObject_IsTrue(given[0]);
  PyErr_Clear();
  if (blocking != 1) return Blocking::kNo;
  return given[1] == Py_None ? Blocking::kForEver : Blocking::kForSomeTime;
}

PyObject* get(PyObject* self, PyTypeObject* type, PyObject* const* arguments, Py_ssize_t count,
              PyObject* names) {
  const auto wrapped = reinterpret_cast<PyCMethod>(reinterpret_cast<void*>(g_wrapped[kQueueGet].function));
  const Blocking blocking = elsewhere() ? Blocking::kNo : blocking_of(arguments, count, names);
  if (blocking == Blocking::kNo) return wrapped(self, type, arguments, count, names);
#if PY_VERSION_HEX >= 0x030d0000
  const void* semaphore = nullptr;  // one on the stack
#else
  const void* semaphore = semaphore_of(self);
#endif
  Outcome outcome;
  PyObject* result = revocable(semaphore, outcome, [&] {
    return blocking == Blocking::kForEver ? wrapped(self, type, &PyTuple_GET_ITEM(g_for_long, 0), 2, nullptr)
                                          : wrapped(self, type, arguments, count, names);
  });
  return result || outcome == Outcome::kReady ? result : raise_instead(nullptr, outcome);
}

template <typename Function>
void find(int index, nb::handle type, const char* name, int flags, Function wrapper) {
  nb::object method = nb::getattr(type, name);
  if (Py_TYPE(method.ptr()) != &PyMethodDescr_Type) return;
  PyMethodDef* found = reinterpret_cast<PyMethodDescrObject*>(method.ptr())->d_method;
  if (found->ml_flags != flags) return;
  g_wrapped[index] = {found, found->ml_meth, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(wrapper))};
}

void find_all() {
  g_at_once = nb::make_tuple(false).release().ptr();
  g_for_long = nb::make_tuple(true, 1e9).release().ptr();
  nb::object thread = nb::module_::import_("threading").attr("Thread");
  nb::object join = nb::getattr(thread, "_wait_for_tstate_lock", nb::none());
  if (!join.is_none()) g_join_code = nb::object(join.attr("__code__")).release().ptr();
  nb::module_ threads = nb::module_::import_("_thread");
  nb::object lock = threads.attr("LockType"), recursive = threads.attr("RLock");
  constexpr int kFlags = METH_VARARGS | METH_KEYWORDS;
  find(kLockAcquire, lock, "acquire", kFlags, &acquire_by<kLockAcquire>);
  find(kLockAcquireLock, lock, "acquire_lock", kFlags, &acquire_by<kLockAcquireLock>);
  find(kLockEnter, lock, "__enter__", kFlags, &acquire_by<kLockEnter>);
  find(kRLockAcquire, recursive, "acquire", kFlags, &acquire_by<kRLockAcquire>);
  find(kRLockEnter, recursive, "__enter__", kFlags, &acquire_by<kRLockEnter>);
  find(kQueueGet, nb::module_::import_("queue").attr("SimpleQueue"), "get",
       METH_METHOD | METH_FASTCALL | METH_KEYWORDS, &get);
}

}  // namespace

void wrap_lock_waits() {
  if (!g_at_once) find_all();
  for (Wrapped& wrapped : g_wrapped)
    if (wrapped.definition) wrapped.definition->ml_meth = wrapped.wrapper;
}

void unwrap_lock_waits() noexcept {
  for (Wrapped& wrapped : g_wrapped)
    if (wrapped.definition) wrapped.definition->ml_meth = wrapped.function;
}

}  // namespace weft::python
