#include "fiber_object.hpp"

#include <cxxabi.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "weft/detail/interpreter.hpp"
#include "weft/fiber.hpp"

namespace weft::python {

namespace {

PyTypeObject* g_type = nullptr;
PyObject* g_package = nullptr;     // "weft._"
PyObject* g_threading = nullptr;   // vars(threading)
PyObject* g_threads = nullptr;     // threading._active: the objects of threads, by their numbers
PyObject* g_trace_hook = nullptr;  // names in it
PyObject* g_profile_hook = nullptr;

// A fiber's number is its control block's address, which the next in that block has too: what threading knows
// of this one must not be found by that.
void forget_thread_object() noexcept {
  if (!g_threads || PyDict_GET_SIZE(g_threads) <= 1) return;
  PyObject* number = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
  if (!number || (PyDict_Contains(g_threads, number) == 1 && PyDict_DelItem(g_threads, number) != 0))
    PyErr_Clear();
  Py_XDECREF(number);
}

// Debuggers, coverage and profilers come into new threads by threading.settrace() and setprofile(), which
// threading follows in the threads that it starts.
void follow_hook(PyObject* hook, const char* setter) noexcept {
  PyObject* function = PyDict_GetItemWithError(g_threading, hook);
  PyObject* set = PySys_GetObject(setter);
  if (!function || function == Py_None || !set) return;
  Py_INCREF(function);
  PyObject* answer = PyObject_CallOneArg(set, function);
  if (!answer) PyErr_WriteUnraisable(set);
  Py_XDECREF(answer);
  Py_DECREF(function);
}

// OSError with ECANCELED.
bool is_cancelled_call(PyObject* exception) noexcept {
  if (!PyErr_GivenExceptionMatches(exception, PyExc_OSError)) return false;
  PyObject* number = PyObject_GetAttrString(exception, "errno");
  const bool is = number && PyLong_Check(number) && PyLong_AsLong(number) == ECANCELED;
  Py_XDECREF(number);
  PyErr_Clear();
  return is;
}

}  // namespace

void follow_tracers() noexcept {
  follow_hook(g_trace_hook, "settrace");
  follow_hook(g_profile_hook, "setprofile");
}

void leave_interpreter() noexcept {
  forget_thread_object();
  PyThreadState* state = PyThreadState_Get();
  forget_tracers(state);
  PyThreadState_Clear(state);
  PyThreadState_DeleteCurrent();
}

void PythonTask::run(Task& task) {
  auto& self = static_cast<PythonTask&>(task);
  PyThreadState* state = PyThreadState_New(PyInterpreterState_Main());
  if (!state) Py_FatalError("weft: no memory for a fiber's thread state");
  take_gil(state);
  FiberObject* object = self.object_;
  try {
    object->execute();
  } catch (abi::__forced_unwind&) {
    detail::stay();  // it wanted the GIL back while the interpreter ends
  }
  self.end = object->exception_ ? object->cancelled_ ? End::kCancelled : End::kThrew : End::kReturned;
  self.complete();
  object->call_back();
  Py_DECREF(object->self_);
  leave_interpreter();
}

void FiberObject::execute() {
  follow_tracers();
  if (task().cancel_requested()) {  // before it began
    exception_ = PyObject_CallNoArgs(exceptions.cancelled);
    if (!exception_) exception_ = take_exception();
  } else {
    result_ = call_in_context(context_, callable_, arguments_, keywords_, &exception_);
  }
  // A C function that is the fiber's own: there was no frame to raise in.
  if (exception_ && task().cancel_requested() && is_cancelled_call(exception_)) {
    PyObject* cancelled = PyObject_CallNoArgs(exceptions.cancelled);
    if (!cancelled) cancelled = take_exception();  // what was pending came now, in the making of another
    PyException_SetContext(cancelled, exception_);
    exception_ = cancelled;
  }
  if (exception_) traceback_ = PyException_GetTraceback(exception_);
  cancelled_ = exception_ && PyErr_GivenExceptionMatches(exception_, exceptions.cancelled);
  if (failures_ && exception_ && !cancelled_ && PyList_Append(failures_, exception_) != 0) PyErr_Clear();
  Py_CLEAR(callable_);
  Py_CLEAR(arguments_);
  Py_CLEAR(keywords_);
  Py_CLEAR(context_);
}

void FiberObject::call_back() noexcept {
  PyObject* callbacks = std::exchange(callbacks_, nullptr);
  if (!callbacks) return;
  PyObject* arguments = PyTuple_Pack(1, self_);
  for (Py_ssize_t i = 0; arguments && i < PyList_GET_SIZE(callbacks); ++i) {
    PyObject* function = PyTuple_GET_ITEM(PyList_GET_ITEM(callbacks, i), 0);
    PyObject* context = PyTuple_GET_ITEM(PyList_GET_ITEM(callbacks, i), 1);
    PyObject* error = nullptr;
    PyObject* answer = call_in_context(context, function, arguments, nullptr, &error);
    if (!answer) {
      set_exception(error);
      Py_DECREF(error);
      PyErr_WriteUnraisable(function);
    }
    Py_XDECREF(answer);
  }
  if (!arguments) PyErr_WriteUnraisable(nullptr);
  Py_XDECREF(arguments);
  Py_DECREF(callbacks);
}

FiberObject::~FiberObject() {
  report_if_unobserved();
  clear();
}

// Told by sys.unraisablehook, with a text that has the place the fiber was spawned at in place of an object.
void FiberObject::report_if_unobserved() noexcept {
  if (!exception_ || observed_ || cancelled_) return;
  observed_ = true;
  PyObject* pending = take_exception();
  PyObject* text = PyUnicode_FromString(repr().c_str());
  set_exception(exception_);
  PyErr_WriteUnraisable(text);
  Py_XDECREF(text);
  if (pending) {
    set_exception(pending);
    Py_DECREF(pending);
  }
}

void FiberObject::wait(std::optional<Seconds> timeout) {
  if (detail::Task::current() == &task())
    raise_error(PyExc_RuntimeError, "a fiber cannot wait for its own end");
  const Nanos deadline = deadline_of(timeout);
  const Outcome outcome = blocking([&] { return task().join(deadline, detail::kCancellable); });
  if (outcome == Outcome::kTimeout) raise_error(exceptions.timeout, "the fiber has not ended in that time");
  raise_outcome(outcome);
}

void FiberObject::join(std::optional<Seconds> timeout) {
  wait(timeout);
}

nb::object FiberObject::result(std::optional<Seconds> timeout) {
  if (!task().done()) wait(timeout);
  observed_ = true;
  if (exception_) {
    // As it was when the fiber ended: each raise adds the frames of who asked, with all that they refer to.
    PyException_SetTraceback(exception_, traceback_ ? traceback_ : Py_None);
    set_exception(exception_);
    throw nb::python_error();
  }
  if (!result_) raise_error(exceptions.cancelled, "the fiber did not survive the fork of this process");
  return nb::borrow(result_);
}

nb::object FiberObject::exception(std::optional<Seconds> timeout) {
  if (!task().done()) wait(timeout);
  observed_ = true;
  return exception_ ? nb::borrow(exception_) : nb::none();
}

bool FiberObject::cancel() {
  if (task().done()) return false;
  task().cancel();
  return true;
}

void FiberObject::add_done_callback(nb::object function) {
  if (!PyCallable_Check(function.ptr()))
    raise_error(PyExc_TypeError, "add_done_callback() takes a function that is called with the fiber");
  nb::object context = nb::steal(PyContext_CopyCurrent());
  if (!context.is_valid()) throw nb::python_error();
  if (!task().done()) {
    if (!callbacks_ && !(callbacks_ = PyList_New(0))) throw nb::python_error();
    nb::object both = nb::make_tuple(function, context);
    if (PyList_Append(callbacks_, both.ptr()) != 0) throw nb::python_error();
    return;
  }
  context.attr("run")(function, nb::handle(self_));
}

std::string FiberObject::name() const {
  return *task().name() ? task().name() : "fiber-" + std::to_string(task().id());
}

std::string FiberObject::spawn_site() const {
  if (!code_) return "?";
  auto* code = reinterpret_cast<PyCodeObject*>(code_);
  return std::string(nb::borrow<nb::str>(code->co_filename).c_str()) + ":" +
         std::to_string(PyCode_Addr2Line(code, line_)) + " in " +
         nb::borrow<nb::str>(code->co_qualname).c_str();
}

std::string FiberObject::repr() const {
  const char* state = !task().done() ? task().cancel_requested() ? "being cancelled" : "running"
                      : cancelled_   ? "cancelled"
                      : exception_   ? "failed"
                                     : "done";
  return "<weft.Fiber '" + name() + "' #" + std::to_string(task().id()) + " " + state + ", spawned at " +
         spawn_site() + ">";
}

int FiberObject::traverse(visitproc visit, void* arg) {
  Py_VISIT(exception_);
  Py_VISIT(traceback_);
  Py_VISIT(result_);
  Py_VISIT(callable_);
  Py_VISIT(arguments_);
  Py_VISIT(keywords_);
  Py_VISIT(context_);
  Py_VISIT(callbacks_);
  Py_VISIT(failures_);
  Py_VISIT(code_);
  return 0;
}

void FiberObject::clear() {
  Py_CLEAR(exception_);
  Py_CLEAR(traceback_);
  Py_CLEAR(result_);
  Py_CLEAR(callable_);
  Py_CLEAR(arguments_);
  Py_CLEAR(keywords_);
  Py_CLEAR(context_);
  Py_CLEAR(callbacks_);
  Py_CLEAR(failures_);
  Py_CLEAR(code_);
}

// The innermost frame that is not of this package.
void FiberObject::note_site() {
  PyFrameObject* frame = PyEval_GetFrame();
  Py_XINCREF(frame);
  while (frame) {
    PyObject* globals = PyFrame_GetGlobals(frame);
    PyObject* module = PyDict_GetItemString(globals, "__name__");
    const bool ours = module && PyUnicode_Check(module) &&
                      PyUnicode_Tailmatch(module, g_package, 0, PY_SSIZE_T_MAX, -1) == 1;
    Py_DECREF(globals);
    if (!ours) {
      code_ = reinterpret_cast<PyObject*>(PyFrame_GetCode(frame));
      line_ = PyFrame_GetLasti(frame);
      Py_DECREF(frame);
      return;
    }
    Py_SETREF(frame, PyFrame_GetBack(frame));
  }
}

void FiberObject::report_to(nb::list list) {
  observed_ = true;
  failures_ = list.release().ptr();
}

nb::object FiberObject::spawn_with(nb::handle function, nb::handle arguments, nb::handle keywords) {
  std::vector<PyObject*> all{function.ptr()};
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(arguments.ptr()); ++i)
    all.push_back(PyTuple_GET_ITEM(arguments.ptr(), i));
  const auto positional = static_cast<Py_ssize_t>(all.size());
  nb::object names = nb::steal(PyTuple_New(PyDict_GET_SIZE(keywords.ptr())));
  PyObject *key, *value;
  Py_ssize_t place = 0;
  for (Py_ssize_t i = 0; PyDict_Next(keywords.ptr(), &place, &key, &value); ++i) {
    PyTuple_SET_ITEM(names.ptr(), i, Py_NewRef(key));
    all.push_back(value);
  }
  PyObject* fiber = spawn(nullptr, all.data(), positional, names.ptr());
  if (!fiber) throw nb::python_error();
  return nb::steal(fiber);
}

PyObject* FiberObject::spawn(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
  try {
    if (count == 0) {
      PyErr_SetString(PyExc_TypeError, "spawn() takes a function, and what it is to be called with");
      return nullptr;
    }
    if (!PyCallable_Check(arguments[0])) {
      PyErr_Format(PyExc_TypeError,
                   "spawn() takes a function to call, not %.100s: pass the function itself, not its call",
                   Py_TYPE(arguments[0])->tp_name);
      return nullptr;
    }
    ensure_runtime();
    nb::object keywords, name;
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); ++i) {
      PyObject* key = PyTuple_GET_ITEM(names, i);
      PyObject* value = arguments[count + i];
      if (PyUnicode_CompareWithASCIIString(key, "name") == 0) {
        if (value != Py_None && !PyUnicode_Check(value)) {
          PyErr_SetString(PyExc_TypeError, "spawn(name=...) takes a string");
          return nullptr;
        }
        if (value != Py_None) name = nb::borrow(value);
        continue;
      }
      if (!keywords.is_valid()) keywords = nb::steal(PyDict_New());
      if (PyDict_SetItem(keywords.ptr(), key, value) != 0) return nullptr;
    }
    nb::object self = nb::inst_alloc(nb::handle(reinterpret_cast<PyObject*>(g_type)));
    auto* fiber = new (nb::inst_ptr<void>(self)) FiberObject;
    nb::inst_mark_ready(self);
    fiber->self_ = self.ptr();
    fiber->task_ = detail::Ref<PythonTask>::adopt(new PythonTask(fiber));
    fiber->callable_ = Py_NewRef(arguments[0]);
    fiber->arguments_ = PyTuple_New(count - 1);
    if (!fiber->arguments_) return nullptr;
    for (Py_ssize_t i = 1; i < count; ++i)
      PyTuple_SET_ITEM(fiber->arguments_, i - 1, Py_NewRef(arguments[i]));
    fiber->keywords_ = keywords.is_valid() ? keywords.release().ptr() : nullptr;
    fiber->context_ = PyContext_CopyCurrent();
    if (!fiber->context_) return nullptr;
    fiber->note_site();
    detail::TaskOptions options;
    Py_ssize_t length = 0;
    if (name.is_valid()) {
      options.name = PyUnicode_AsUTF8AndSize(name.ptr(), &length);
      if (!options.name) return nullptr;
      if (memchr(options.name, 0, static_cast<size_t>(length))) {
        PyErr_SetString(PyExc_ValueError, "spawn(name=...): a name must not have a null character in it");
        return nullptr;
      }
    }
    options.name_length = static_cast<size_t>(length);
    Py_INCREF(fiber->self_);  // the fiber's own
    if (const int error = fiber->task_->start(options)) {
      Py_DECREF(fiber->self_);
      fiber->observed_ = true;
      if (error != ENOMEM && error != EAGAIN) raise_errno(error);
      PyErr_Format(PyExc_MemoryError, "no memory for another fiber (%s); see 'weft doctor'", strerror(error));
      return nullptr;
    }
    return self.release().ptr();
  } catch (nb::python_error& error) {
    error.restore();
    return nullptr;
  }
}

namespace {

PyMethodDef g_spawn = {"spawn", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&FiberObject::spawn)),
                       METH_FASTCALL | METH_KEYWORDS,
                       "spawn(function, /, *args, name=None, **kwargs)\n--\n\n"
                       "Run function(*args, **kwargs) in a new fiber; return its handle at once.\n\n"
                       "The fiber inherits a copy of the caller's contextvars. The first call starts the\n"
                       "runtime and must be made on the main thread, later ones on any."};

PyType_Slot g_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(+[](PyObject* self, visitproc visit, void* arg) -> int {
#if PY_VERSION_HEX >= 0x03090000
       Py_VISIT(Py_TYPE(self));
#endif
       if (!nb::inst_ready(self)) return 0;
       return nb::inst_ptr<FiberObject>(self)->traverse(visit, arg);
     })},
    // Of a cycle all are finalised before the first is cleared: what reports shows an exception that is whole
    // still.
    {Py_tp_finalize, reinterpret_cast<void*>(+[](PyObject* self) {
       if (nb::inst_ready(self)) nb::inst_ptr<FiberObject>(self)->report_if_unobserved();
     })},
    {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
       nb::inst_ptr<FiberObject>(self)->clear();
       return 0;
     })},
    {0, nullptr}};

nb::object current() {
  detail::Task* task = detail::Task::current();
  // Only Python spawns fibers with such tasks here; those of C++ libraries have other types.
  auto* mine = task ? PythonTask::of(*task) : nullptr;
  return mine && mine->object() ? nb::borrow(mine->object()->self()) : nb::none();
}

void sleep(Seconds seconds) {
  const Nanos deadline = deadline_of(seconds);
  ensure_runtime();
  raise_outcome(blocking([&] { return detail::sleep_until(deadline); }));
}

void yield_now() {
  ensure_runtime();
  Released released;
  detail::yield();
}

}  // namespace

void add_fibers(nb::module_& m) {
  nb::class_<FiberObject> type(m, "Fiber", nb::type_slots(g_slots), nb::is_generic(),
                               nb::is_weak_referenceable(), nb::sig("class Fiber(Generic[T])"),
                               "A fiber that was spawned. Usable on any thread.");
  g_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  type.def("join", &FiberObject::join, nb::arg("timeout") = nb::none(),
           "Wait until it has ended, however that was. Raise weft.Timeout after `timeout` seconds.\n\n"
           "A cancellation point. Any number may wait, any number of times.")
      .def("result", &FiberObject::result, nb::arg("timeout") = nb::none(),
           nb::sig("def result(self, timeout: float | None = None) -> T"),
           "join(), then return what its function returned, or raise what it raised.")
      .def("exception", &FiberObject::exception, nb::arg("timeout") = nb::none(),
           nb::sig("def exception(self, timeout: float | None = None) -> BaseException | None"),
           "join(), then return the exception that ended it, or None.")
      .def("cancel", &FiberObject::cancel,
           "Ask it to end: its present or next cancellable wait raises weft.Cancelled, and every later "
           "one.\n\n"
           "One that has not begun does not call its function. Return False if it has ended already.")
      .def(
          "done", [](FiberObject& self) { return self.task().done(); }, "Has it ended?")
      .def(
          "cancelled", [](FiberObject& self) { return self.cancelled(); }, "Did it end by weft.Cancelled?")
      .def("add_done_callback", &FiberObject::add_done_callback, nb::arg("function"),
           nb::sig("def add_done_callback(self, function: Callable[[Fiber[T]], object]) -> None"),
           "Call function(fiber) when it has ended, in the fiber itself; at once if it has.\n\n"
           "In a copy of the contextvars of who calls this.")
      .def_prop_ro("name", &FiberObject::name, "As given to spawn(), or made of its number.")
      .def_prop_ro(
          "id", [](FiberObject& self) { return self.task().id(); }, "Its number, unlike any other's.")
      .def_prop_ro("spawned_at", &FiberObject::spawn_site, "\"file:line in function\" of the spawn() call.")
      .def(
          "__await__",
          [](nb::handle self) { return nb::module_::import_("weft._asyncio").attr("await_fiber")(self); },
          nb::sig("def __await__(self) -> Generator[Any, None, T]"),
          "In a coroutine: wait until it has ended. Cancelling the task cancels the fiber.")
      .def("__repr__", &FiberObject::repr);

  g_package = PyUnicode_InternFromString("weft._");
  g_trace_hook = PyUnicode_InternFromString("_trace_hook");
  g_profile_hook = PyUnicode_InternFromString("_profile_hook");
  PyObject* spawn = PyCFunction_NewEx(&g_spawn, nullptr, m.attr("__name__").ptr());
  m.attr("spawn") = nb::steal(spawn);
  m.def("current", &current,
        "Return the Fiber that runs this code; None in code that spawn() did not start.");
  m.def("sleep", &sleep, nb::arg("seconds").none(), nb::sig("def sleep(seconds: float) -> None"),
        "Let other fibers run for that long. A cancellation point. Negative: let those run that are ready.");
  m.def("yield_now", &yield_now, "Let every other fiber run that is ready. No cancellation point.");
}

void set_threading(nb::handle names, nb::handle threads) {
  g_threading = names.ptr();
  g_threads = threads.ptr();
}

}  // namespace weft::python
