#include "actor_future.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "actor_object.hpp"
#include "weft/runtime.hpp"
#include "weft/timeout.hpp"

namespace weft::python {

namespace {

PyTypeObject* g_type = nullptr;  // weft.actor.ThreadingFuture

struct ThreadingFutureObject : FutureObject {
  ThreadingFutureObject() : FutureObject(true) {}
};

bool in_timeout_scope() noexcept {
  return Runtime::running() && detail::push_expiry(detail::kNever) != detail::kNever;
}

PyObject* queue_full() {
  static PyObject* type = imported("queue", "Full");
  return type;
}

// Also of the instance's dictionary, which nanobind sees to only where it has these functions itself.
PyType_Slot g_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(+[](PyObject* self, visitproc visit, void* arg) -> int {
       Py_VISIT(Py_TYPE(self));
       if (PyObject** dictionary = _PyObject_GetDictPtr(self)) Py_VISIT(*dictionary);
       return nb::inst_ready(self) ? nb::inst_ptr<FutureObject>(self)->traverse(visit, arg) : 0;
     })},
    {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
       if (PyObject** dictionary = _PyObject_GetDictPtr(self)) Py_CLEAR(*dictionary);
       if (nb::inst_ready(self)) nb::inst_ptr<FutureObject>(self)->clear();
       return 0;
     })},
    {0, nullptr}};

}  // namespace

FutureObject::FutureObject(bool settable) noexcept : settable_(settable) {}

nb::object FutureObject::make(PyActor* source) {
  nb::object self = nb::inst_alloc(nb::handle(reinterpret_cast<PyObject*>(g_type)));
  auto* future = new (nb::inst_ptr<void>(self)) ThreadingFutureObject;
  nb::inst_mark_ready(self);
  if (source) {
    source->retain();
    future->source_ = source;
  }
  return self;
}

void FutureObject::redirect(PyActor& source) noexcept {
  if (!source_) return;  // it was settled
  source.retain();
  std::exchange(source_, &source)->release();
}

nb::object FutureObject::make_like(nb::handle future) {
  PyTypeObject* type = Py_TYPE(future.ptr());
  if (type == g_type) return make();
  nb::object self = nb::steal(PyObject_CallNoArgs(reinterpret_cast<PyObject*>(type)));
  if (!self.is_valid()) throw nb::python_error();
  return self;
}

// Whoever waits without a time limit for an actor that waits, so, for the caller's actor, waits for ever.
void FutureObject::forbid_deadlock() const {
  PyActor* self = PyActor::running_here();
  if (!self || !source_) return;
  std::string chain = self->text();
  for (const PyActor* other = source_; other;
       other = other->waits_for ? other->waits_for->source_ : nullptr) {
    chain += " waits for " + other->text();
    if (other == self)
      raise_text(
          PyExc_RuntimeError,
          "deadlock: " + chain +
              ": an actor must not wait for an answer that it, or who waits for it, has to give. Let the "
              "answer come as a message, or return the future");
  }
}

nb::object FutureObject::get(std::optional<Seconds> timeout) {
  switch (kind_) {
    case Kind::kValue:
      return nb::borrow(value_);
    case Kind::kError:
      // As it was when it was set: each raise adds to it.
      PyException_SetTraceback(value_, traceback_ ? traceback_ : Py_None);
      weft::python::set_exception(value_);
      throw nb::python_error();
    case Kind::kHook:
      return run_hook(timeout);
    case Kind::kPending:
      break;
  }
  require_settable();
  const Nanos deadline = std::min(deadline_of(timeout), deadline_);
  // With a time limit, of whatever kind, it is no deadlock: it ends.
  PyActor* self = deadline == detail::kNever && !in_timeout_scope() ? PyActor::running_here() : nullptr;
  if (self) forbid_deadlock();
  const FutureObject* former = self ? std::exchange(self->waits_for, this) : nullptr;
  Outcome outcome;
  try {
    ensure_runtime_on_main();
    outcome = blocking([&] { return done_.wait(deadline, detail::kCancellable, "an actor's answer"); });
  } catch (...) {
    if (self) self->waits_for = former;
    throw;
  }
  if (self) self->waits_for = former;
  if (outcome == Outcome::kTimeout && deadline == deadline_)
    raise_text(actor_names.timeout, "the deadline of the message has passed");
  if (outcome == Outcome::kTimeout) raise_timeout(*timeout);
  raise_outcome(outcome);
  return get(timeout);
}

void FutureObject::raise_timeout(const Seconds& seconds) {
  char text[64];
  snprintf(text, sizeof text, "%g seconds", seconds.value);
  raise_text(actor_names.timeout, text);
}

// One calls it; others wait until it is over, and look again.
nb::object FutureObject::run_hook(std::optional<Seconds> timeout) {
  const Nanos deadline = deadline_of(timeout);
  PyThreadState* here = PyThreadState_Get();
  while (!value_ && running_hook_) {
    if (running_hook_ == here)
      raise_error(PyExc_RuntimeError,
                  "the get hook of this future is being called: it must not wait for itself");
    ensure_runtime_on_main();
    const Outcome outcome = blocking([&] {
      return detail::await(&running_hook_, deadline, detail::kCancellable, "a future's get hook",
                           [this]() noexcept { return !running_hook_.load(std::memory_order_acquire); });
    });
    if (outcome == Outcome::kTimeout) raise_timeout(*timeout);
    raise_outcome(outcome);
  }
  if (value_) return nb::borrow(value_);
  running_hook_ = here;
  const auto end = [this] {
    running_hook_ = nullptr;
    detail::wake(&running_hook_);
  };
  nb::object value;
  try {
    value = call_hook(timeout);
  } catch (...) {
    end();
    throw;
  }
  if (!value_) value_ = value.inc_ref().ptr();
  end();
  return value;
}

nb::object FutureObject::call_hook(std::optional<Seconds> timeout) {
  if (derived_ != Derived::kNot) return derived_value(timeout);
  nb::object seconds = timeout ? nb::object(nb::float_(timeout->value)) : nb::none();
  nb::object value = nb::steal(PyObject_CallOneArg(function_, seconds.ptr()));
  if (!value.is_valid()) throw nb::python_error();
  return value;
}

nb::object FutureObject::derived_value(std::optional<Seconds> timeout) {
  nb::object sources = nb::borrow(sources_);
  const auto answer_of = [&](Py_ssize_t i) {
    nb::handle source = PyTuple_GET_ITEM(sources.ptr(), i);
    if (Py_TYPE(source.ptr()) == g_type) return nb::inst_ptr<FutureObject>(source)->get(timeout);
    // Any object with get(), which may be another than ours.
    return source.attr("get")(nb::arg("timeout") =
                                  timeout ? nb::object(nb::float_(timeout->value)) : nb::none());
  };
  nb::object function = nb::borrow(function_);
  switch (derived_) {
    case Derived::kJoin: {
      nb::list all;
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(sources.ptr()); ++i) all.append(answer_of(i));
      return all;
    }
    case Derived::kMap:
      return function(answer_of(0));
    case Derived::kFilter: {
      nb::list kept;
      for (nb::handle item : answer_of(0))
        if (nb::cast<bool>(nb::bool_(function(item)))) kept.append(item);
      return kept;
    }
    case Derived::kReduce: {
      static PyObject* reduce = imported("functools", "reduce");
      return nb::borrow(reduce)(function, answer_of(0), *nb::borrow<nb::tuple>(arguments_));
    }
    case Derived::kStopped:
      try {
        answer_of(0);
        return nb::bool_(true);
      } catch (nb::python_error& error) {
        if (!error.matches(actor_names.dead)) throw;
        return nb::bool_(false);
      }
    case Derived::kNot:
      break;
  }
  return nb::none();
}

void FutureObject::require_settable() const {
  if (!settable_)
    raise_error(PyExc_NotImplementedError, "a weft.actor.Future is abstract: use ThreadingFuture");
}

void FutureObject::require_unset() const {
  require_settable();
  if (kind_ != Kind::kPending)
    raise_text(queue_full(), "the future has a value, an exception or a get hook already");
}

void FutureObject::finish(Kind kind) {
  kind_ = kind;
  if (source_) std::exchange(source_, nullptr)->release();
  done_.complete();
  PyObject* callbacks = std::exchange(callbacks_, nullptr);
  for (Py_ssize_t i = 0; callbacks && i < PyList_GET_SIZE(callbacks); ++i) {
    PyObject* answer = PyObject_CallNoArgs(PyList_GET_ITEM(callbacks, i));
    if (!answer) PyErr_WriteUnraisable(PyList_GET_ITEM(callbacks, i));
    Py_XDECREF(answer);
  }
  Py_XDECREF(callbacks);
}

void FutureObject::set(nb::handle value) {
  require_unset();
  settle(nb::borrow(value));
}

bool FutureObject::cancel() {
  if (derived_ != Derived::kNot && !value_) {
    bool any = false;
    nb::object sources = nb::borrow(sources_);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(sources.ptr()); ++i) {
      nb::handle source = PyTuple_GET_ITEM(sources.ptr(), i);
      if (nb::isinstance<FutureObject>(source) && nb::cast<FutureObject&>(source).cancel()) any = true;
    }
    cancelled_ = any;
    return any;
  }
  if (!settable_ || kind_ != Kind::kPending) return false;
  nb::object error = nb::steal(PyObject_CallNoArgs(exceptions.cancelled));
  if (!error.is_valid()) throw nb::python_error();
  cancelled_ = true;
  if (source_) source_->interrupt_for(*this);
  settle_error(error.ptr());
  return true;
}

void FutureObject::settle(nb::object value) {
  if (kind_ != Kind::kPending) return;
  value_ = value.release().ptr();
  finish(Kind::kValue);
}

void FutureObject::settle_error(PyObject* error) {
  if (kind_ != Kind::kPending) return;
  value_ = Py_NewRef(error);
  traceback_ = PyException_GetTraceback(error);
  finish(Kind::kError);
}

void FutureObject::set_exception(nb::handle exc_info) {
  require_unset();
  nb::object info =
      exc_info.is_none() ? nb::module_::import_("sys").attr("exc_info")() : nb::borrow(exc_info);
  if (!PyTuple_Check(info.ptr()) || PyTuple_GET_SIZE(info.ptr()) != 3)
    raise_error(PyExc_TypeError, "set_exception() takes what sys.exc_info() returns: three values");
  nb::object type = info[0], value = info[1], traceback = info[2];
  if (type.is_none())
    raise_error(
        PyExc_TypeError,
        "set_exception() without arguments takes the exception that is being handled, and there is none");
  if (value.is_none()) value = type();
  if (!PyExceptionInstance_Check(value.ptr()))
    raise_error(PyExc_TypeError, "set_exception(): the second of the three values must be an exception");
  require_unset();  // what was called above may have set it
  value_ = value.release().ptr();
  traceback_ = traceback.is_none() ? nullptr : traceback.release().ptr();
  finish(Kind::kError);
}

void FutureObject::set_get_hook(nb::handle function) {
  if (settable_ && (kind_ == Kind::kValue || kind_ == Kind::kError)) require_unset();
  Py_XSETREF(function_, function.inc_ref().ptr());
  derived_ = Derived::kNot;
  if (kind_ == Kind::kPending) finish(Kind::kHook);
}

void FutureObject::derive(Derived kind, nb::handle sources, nb::handle function, nb::handle arguments) {
  sources_ = sources.inc_ref().ptr();
  function_ = function.inc_ref().ptr();
  arguments_ = arguments.inc_ref().ptr();
  derived_ = kind;
  finish(Kind::kHook);
}

void FutureObject::lose() {
  if (kind_ != Kind::kPending) return;
  PyObject* error =
      PyObject_CallFunction(actor_names.dead, "s", "the actor did not survive the fork of this process");
  if (!error) error = take_exception();
  settle_error(error);
  Py_DECREF(error);
}

bool FutureObject::done() const {
  if (derived_ == Derived::kNot || value_) return kind_ != Kind::kPending;
  nb::object sources = nb::borrow(sources_);
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(sources.ptr()); ++i) {
    nb::handle source = PyTuple_GET_ITEM(sources.ptr(), i);
    if (nb::isinstance<FutureObject>(source) && !nb::inst_ptr<FutureObject>(source)->done()) return false;
  }
  return true;
}

nb::object FutureObject::awaited(nb::handle self) const {
  if (derived_ != Derived::kNot && !value_) return nb::borrow(sources_);
  return kind_ == Kind::kPending ? nb::make_tuple(self) : nb::make_tuple();
}

void FutureObject::add_done_callback(nb::object function) {
  if (kind_ != Kind::kPending) {
    function();
    return;
  }
  if (!callbacks_ && !(callbacks_ = PyList_New(0))) throw nb::python_error();
  if (PyList_Append(callbacks_, function.ptr()) != 0) throw nb::python_error();
}

int FutureObject::traverse(visitproc visit, void* arg) {
  Py_VISIT(value_);
  Py_VISIT(traceback_);
  Py_VISIT(function_);
  Py_VISIT(sources_);
  Py_VISIT(arguments_);
  Py_VISIT(callbacks_);
  return 0;
}

void FutureObject::clear() {
  Py_CLEAR(value_);
  Py_CLEAR(traceback_);
  Py_CLEAR(function_);
  Py_CLEAR(sources_);
  Py_CLEAR(arguments_);
  Py_CLEAR(callbacks_);
  if (source_) std::exchange(source_, nullptr)->release();
}

namespace {

nb::object derived(nb::handle self, FutureObject::Derived kind, nb::handle sources,
                   nb::handle function = nb::none(), nb::handle arguments = nb::none()) {
  nb::object future = FutureObject::make_like(self);
  nb::cast<FutureObject&>(future).derive(kind, sources, function, arguments);
  return future;
}

}  // namespace

void add_actor_futures(nb::module_& m) {
  using Derived = FutureObject::Derived;
  nb::class_<FutureObject>(m, "Future", nb::type_slots(g_slots), nb::is_generic(),
                           nb::is_weak_referenceable(), nb::dynamic_attr(),
                           nb::sig("class Future(Generic[T_co])"),
                           "What an actor will answer, or anybody else sets: abstract; see ThreadingFuture.")
      .def("__init__", [](FutureObject* self) { new (self) FutureObject(false); })
      .def("get", &FutureObject::get, nb::kw_only(), nb::arg("timeout") = nb::none(),
           nb::sig("def get(self, *, timeout: float | None = None) -> T_co"),
           "Wait until it is set; return its value, or raise its exception; any number of times.\n\n"
           "Raise weft.actor.Timeout after `timeout` seconds, RuntimeError where an actor would wait for "
           "itself.\n"
           "A cancellation point.")
      .def("set", &FutureObject::set, nb::arg("value").none() = nb::none(),
           nb::sig("def set(self, value: Any = None) -> None"),
           "Set its value. Raise queue.Full if it has been set. Any thread.")
      .def("set_exception", &FutureObject::set_exception, nb::arg("exc_info").none() = nb::none(),
           nb::sig("def set_exception(self, exc_info: tuple[Any, Any, Any] | None = None) -> None"),
           "Have get() raise an exception: that being handled, or that of a sys.exc_info() triple.")
      .def("set_get_hook", &FutureObject::set_get_hook, nb::arg("func"),
           nb::sig("def set_get_hook(self, func: Callable[[float | None], Any]) -> None"),
           "Have the first get() call func(timeout), whose result is its value.")
      .def(
          "filter",
          [](nb::handle self, nb::handle func) {
            return derived(self, Derived::kFilter, nb::make_tuple(self), func);
          },
          nb::arg("func"), nb::sig("def filter(self, func: Callable[[Any], object]) -> Future[list[Any]]"),
          "Return a future of a list of those items of the value for which func(item) is true.")
      .def(
          "join",
          [](nb::handle self, nb::args futures) {
            return derived(self, Derived::kJoin, nb::make_tuple(self) + nb::tuple(futures));
          },
          nb::sig("def join(self, *futures: Future[Any]) -> Future[list[Any]]"),
          "Return a future of a list of the values of this one and others.")
      .def(
          "map",
          [](nb::handle self, nb::handle func) {
            return derived(self, Derived::kMap, nb::make_tuple(self), func);
          },
          nb::arg("func"), nb::sig("def map(self, func: Callable[[T_co], M]) -> Future[M]"),
          "Return a future of func(value).")
      .def(
          "reduce",
          [](nb::handle self, nb::handle func, nb::args arguments) {
            return derived(self, Derived::kReduce, nb::make_tuple(self), func, arguments);
          },
          nb::arg("func"), nb::arg("args"),
          nb::sig("def reduce(self, func: Callable[[Any, Any], Any], *args: Any) -> Future[Any]"),
          "Return a future of functools.reduce(func, value, *args).")
      .def("cancel", &FutureObject::cancel,
           "Give the answer up: get() raises weft.Cancelled. Return False if it was set before.\n\n"
           "The actor does not begin with the message. If it is at it, on a fiber, the handler's cancellable "
           "waits\n"
           "raise weft.Cancelled. Of a future made by map() and its like: cancels what it is made from.")
      .def("cancelled", &FutureObject::cancelled, "Has cancel() counted?")
      .def("done", &FutureObject::done,
           "Would get() return, or raise, at once, but for what a get hook does?")
      .def("_add_done_callback", &FutureObject::add_done_callback, nb::arg("function"))
      .def("_awaited", [](nb::handle self) { return nb::cast<FutureObject&>(self).awaited(self); })
      .def(
          "__await__",
          [](nb::handle self) { return nb::module_::import_("weft.actor._awaiting").attr("wait")(self); },
          nb::sig("def __await__(self) -> Generator[Any, None, T_co]"),
          "In a coroutine: wait for it without holding up the event loop.")
      .def(
          "__iter__",
          [](nb::handle self) { return nb::module_::import_("weft.actor._awaiting").attr("wait")(self); },
          nb::sig("def __iter__(self) -> Generator[Any, None, T_co]"))
      .def(
          "__deepcopy__", [](nb::handle self, nb::handle) { return nb::borrow(self); }, nb::arg("memo"),
          nb::sig("def __deepcopy__(self, memo: object) -> Future[T_co]"))
      .def(
          "__reduce__",
          [](nb::handle) -> nb::object {
            raise_error(PyExc_TypeError,
                        "a weft.actor.Future cannot be sent to another process: send what its get() returns");
          },
          nb::sig("def __reduce__(self) -> NoReturn"))
      .def(
          "_settle",
          [](FutureObject& self, nb::object value) {
            const bool pending = !self.done();
            self.settle(std::move(value));
            return pending;
          },
          nb::arg("value").none())
      .def("_settle_error", [](FutureObject& self, nb::handle error) { self.settle_error(error.ptr()); })
      .def("__repr__", [](nb::handle) { return "<pykka.Future>"; });
  nb::class_<ThreadingFutureObject, FutureObject> type(
      m, "ThreadingFuture", nb::type_slots(g_slots), nb::is_generic(), nb::is_weak_referenceable(),
      nb::dynamic_attr(), nb::sig("class ThreadingFuture(Future[T_co])"),
      "A future that can be set once, by any thread or fiber, and waited for by any.");
  type.def(nb::init<>());
  g_type = reinterpret_cast<PyTypeObject*>(type.ptr());
}

}  // namespace weft::python
