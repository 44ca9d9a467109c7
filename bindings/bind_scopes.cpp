// Timeout scopes, shields, task groups, waiting for descriptors, work on other threads.
#include <cxxabi.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "fiber_object.hpp"
#include "weft/detail/channel.hpp"
#include "weft/detail/group.hpp"
#include "weft/fiber.hpp"
#include "weft/offload.hpp"
#include "weft/patch.hpp"
#include "weft/runtime.hpp"
#include "weft/timeout.hpp"

namespace weft::python {

namespace {

/// Who is in a scope, and what the deadlines were outside.
class Entries {
 public:
  /// True: it is the outermost. To be followed by add().
  bool enter(const char* scope) {
    // The library would start as in a C++ program, in which no signal ends a wait.
    if (!Runtime::running()) ensure_runtime();
    if (formers_.empty()) {
      thread_ = PyThread_get_thread_ident();
    } else if (PyThread_get_thread_ident() != thread_) {
      PyErr_Format(PyExc_RuntimeError, "%s: another fiber or thread is in this one: make one for each",
                   scope);
      throw nb::python_error();
    }
    formers_.reserve(formers_.size() + 1);
    return formers_.empty();
  }
  void add(Nanos former) noexcept { formers_.push_back(former); }
  Nanos leave(const char* scope) {
    if (formers_.empty()) {
      PyErr_Format(PyExc_RuntimeError, "%s: left more often than it was entered", scope);
      throw nb::python_error();
    }
    if (PyThread_get_thread_ident() != thread_) {
      PyErr_Format(PyExc_RuntimeError, "%s: to be left by the fiber or thread that entered it", scope);
      throw nb::python_error();
    }
    const Nanos former = formers_.back();
    formers_.pop_back();
    return former;
  }
  bool entered() const noexcept { return !formers_.empty(); }

 private:
  std::vector<Nanos> formers_;
  unsigned long thread_ = 0;
};

/// `with weft.timeout(seconds)`.
class TimeoutScopeObject {
 public:
  explicit TimeoutScopeObject(std::optional<Seconds> seconds) : seconds_(seconds) { deadline_of(seconds); }

  TimeoutScopeObject& enter() {
    ensure_runtime();
    if (seconds_ && !detail::in_fiber())
      raise_error(
          PyExc_RuntimeError,
          "weft.timeout: waits of an OS thread cannot be ended: call this in a fiber, or give the call a "
          "time limit of its own");
    if (entries_.enter("weft.timeout")) deadline_ = deadline_of(seconds_);
    entries_.add(detail::push_expiry(deadline_));
    return *this;
  }
  void exit(nb::handle type, nb::handle error, nb::handle) {
    detail::pop_expiry(entries_.leave("weft.timeout"));
    // A C library that reports the expired wait as an error of its own, which nothing has replaced.
    if (!type.is_none() && expired() && PyErr_GivenExceptionMatches(type.ptr(), PyExc_OSError) &&
        !PyErr_GivenExceptionMatches(type.ptr(), exceptions.timeout)) {
      nb::object number = nb::getattr(error, "errno", nb::none());
      if (nb::isinstance<nb::int_>(number) && nb::cast<int>(number) == ETIMEDOUT)
        raise_error(exceptions.timeout, "the time is up");
    }
  }
  bool expired() const { return deadline_ != detail::kNever && detail::now() >= deadline_; }
  std::optional<double> remaining() const {
    if (deadline_ == detail::kNever) return std::nullopt;
    return std::max(0.0, static_cast<double>(deadline_ - detail::now()) / 1e9);
  }
  std::string repr() const {
    if (!seconds_) return "<weft.timeout without a deadline>";
    const char* state = expired() ? ", expired" : entries_.entered() ? "" : ", not entered";
    char text[100];
    int length = snprintf(text, sizeof text, "<weft.timeout of %g s%s", seconds_->value, state);
    if (const auto left = remaining(); left && !expired() && entries_.entered())
      length += snprintf(text + length, sizeof text - static_cast<size_t>(length), ", %.3g s left", *left);
    return std::string(text) + ">";
  }

 private:
  std::optional<Seconds> seconds_;
  Nanos deadline_ = detail::kNever;
  Entries entries_;
};

/// `with weft.shield()`.
class ShieldObject {
 public:
  void enter() {
    entries_.enter("weft.shield");
    Nanos former;
    detail::push_shield(&former);
    entries_.add(former);
  }
  void exit() { detail::pop_shield(entries_.leave("weft.shield")); }
  const char* repr() const {
    return entries_.entered() ? "<weft.shield, entered>" : "<weft.shield, not entered>";
  }

 private:
  Entries entries_;
};

/// What weft.TaskGroup derives from. All of it is guarded by the GIL.
class GroupObject {
 public:
  GroupObject() = default;
  ~GroupObject() { clear(); }
  GroupObject(const GroupObject&) = delete;
  GroupObject& operator=(const GroupObject&) = delete;

  void enter() {
    if (state_ != State::kNew)
      raise_error(PyExc_RuntimeError, "a TaskGroup is for one `with` block: make another");
    ensure_runtime();
    failures_ = nb::list();
    core_ = detail::group_create();
    if (!core_) throw std::bad_alloc();
    state_ = State::kOpen;
  }

  /// Of the group from the moment it is spawned, whatever signal comes: no Python code runs in between.
  nb::object spawn(nb::object function, nb::args arguments, nb::kwargs keywords) {
    require_open();
    nb::object fiber = FiberObject::spawn_with(function, arguments, keywords);
    auto& object = nb::cast<FiberObject&>(fiber);
    // What was collected meanwhile may have let others run.
    if (state_ != State::kOpen) object.cancel();
    require_open();
    const bool cancelled = detail::group_cancelled(*core_);
    if (!detail::group_add(*core_, object.task())) {
      object.cancel();
      throw std::bad_alloc();
    }
    ++spawned_;
    if (cancelled) object.cancel();
    object.report_to(nb::borrow<nb::list>(failures_));
    return fiber;
  }

  void cancel() {
    if (state_ == State::kOpen) detail::group_cancel(*core_);
  }

  /// Here and not in Python, where a signal's handler could raise before the fibers were waited for. What one
  /// raises in the meantime counts as if the block had raised it. What is to be raised in the end, the
  /// derived class's _verdict() says.
  bool exit(nb::handle self, nb::object error) {
    if (state_ != State::kOpen) raise_error(PyExc_RuntimeError, "a TaskGroup is left once, by its `with`");
    const bool cancelled = detail::group_cancelled(*core_);
    if (!error.is_none()) detail::group_cancel(*core_);
    nb::object last = error;
    const Outcome outcome = join(last);
    state_ = State::kEnded;
    nb::object failures = nb::steal(PyList_GetSlice(failures_.ptr(), 0, PY_SSIZE_T_MAX));
    if (PyList_SetSlice(failures_.ptr(), 0, PY_SSIZE_T_MAX, nullptr) != 0)
      PyErr_Clear();  // its fibers hold it
    failures_.reset();
    detail::group_destroy(*std::exchange(core_, nullptr));
    nb::object verdict = self.attr("_verdict")(last, failures, cancelled, static_cast<int>(outcome));
    if (verdict.is_none()) {
      raise_outcome(outcome);
      return true;
    }
    if (verdict.is(error)) return false;
    set_exception(verdict.ptr());
    throw nb::python_error();
  }

  int traverse(visitproc visit, void* arg) {
    Py_VISIT(failures_.ptr());
    return 0;
  }
  void clear() {
    failures_.reset();
    state_ = State::kEnded;
    if (core_) detail::group_destroy(*std::exchange(core_, nullptr));
  }

 private:
  enum class State : uint8_t { kNew, kOpen, kEnded };

  void require_open() const {
    if (state_ == State::kNew)
      raise_error(PyExc_RuntimeError, "TaskGroup.spawn() is for the `with` block of the group");
    if (state_ == State::kEnded)
      raise_error(PyExc_RuntimeError,
                  "the `with` block of this TaskGroup has ended: spawn into another, or by weft.spawn()");
  }

  // Waits until all have ended, those too that are spawned meanwhile. *raised: by a signal's handler, the
  // first of them.
  Outcome join(nb::object& raised) {
    Outcome result = Outcome::kReady;
    bool interrupted = false;
    for (;;) {
      const size_t spawned = spawned_;
      Outcome outcome;
      if (finalizing()) return result;  // none of them will run again
      {
        Released released;
        detail::Interruptible interruptible;
        outcome = detail::group_join(*core_);
      }
      if (outcome == Outcome::kInterrupted) {
        if (PyErr_CheckSignals() == 0) continue;
        nb::object exception = nb::steal(take_exception());
        if (!std::exchange(interrupted, true)) raised = std::move(exception);
        detail::group_cancel(*core_);
        continue;
      }
      if (result == Outcome::kReady) result = outcome;
      if (spawned == spawned_) return result;
    }
  }

  State state_ = State::kNew;
  detail::GroupCore* core_ = nullptr;  // of an open one
  size_t spawned_ = 0;
  nb::list failures_ =
      nb::steal<nb::list>(nb::handle());  // what its fibers raised, in the order of their ends
};

PyType_Slot g_group_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(+[](PyObject* self, visitproc visit, void* arg) -> int {
       Py_VISIT(Py_TYPE(self));
       if (!nb::inst_ready(self)) return 0;
       return nb::inst_ptr<GroupObject>(self)->traverse(visit, arg);
     })},
    {Py_tp_clear, reinterpret_cast<void*>(+[](PyObject* self) -> int {
       if (nb::inst_ready(self)) nb::inst_ptr<GroupObject>(self)->clear();
       return 0;
     })},
    {0, nullptr}};

bool wait_for(int descriptor, short events, std::optional<Seconds> timeout) {
  const Nanos deadline = deadline_of(timeout);
  ensure_runtime();
  detail::Case c;
  c.kind = detail::Case::Kind::kDescriptor;
  c.descriptor = descriptor;
  c.events = events;
  size_t chosen;
  const Outcome outcome = blocking([&] {
    c.events = events;
    return detail::select(&c, 1, deadline == detail::kNever ? deadline : std::max<Nanos>(deadline, 1),
                          &chosen);
  });
  if (outcome == Outcome::kTimeout) return false;
  raise_outcome(outcome);
  if (c.events & POLLNVAL) raise_errno(EBADF);
  return true;
}

// Calls a Python function on a thread of the pool.
nb::object to_thread(nb::callable function, nb::args arguments, nb::kwargs keywords) {
  ensure_runtime();
  nb::object context = nb::steal(PyContext_CopyCurrent());
  PyObject* result = nullptr;
  PyObject* error = nullptr;
  {
    Released released;
    weft::offload([&]() noexcept {
      if (finalizing()) detail::stay();
      try {
        const PyGILState_STATE state = PyGILState_Ensure();
        result = call_in_context(context.ptr(), function.ptr(), arguments.ptr(), keywords.ptr(), &error);
        PyGILState_Release(state);
      } catch (abi::__forced_unwind&) {
        detail::stay();  // as take_gil()
      }
    });
  }
  if (error) {
    nb::object raised = nb::steal(error);
    set_exception(error);
    throw nb::python_error();
  }
  return nb::steal(result);
}

}  // namespace

void add_scopes(nb::module_& m) {
  nb::class_<TimeoutScopeObject>(
      m, "timeout", nb::is_final(),
      "with timeout(seconds): a deadline for all that waits in the block.\n\n"
      "Cancellable waits, of Python code and inside C libraries alike, raise weft.Timeout when it\n"
      "has passed. Nests: the nearest deadline counts. None: no deadline. Re-entrant: entered\n"
      "again, it keeps its first deadline. For one fiber at a time. RuntimeError in an OS thread, whose "
      "waits\ncannot be ended.")
      .def(nb::init<std::optional<Seconds>>(), nb::arg("seconds").none())
      .def("__enter__", &TimeoutScopeObject::enter, nb::rv_policy::reference)
      .def("__exit__", &TimeoutScopeObject::exit, nb::arg("type").none(), nb::arg("error").none(),
           nb::arg("traceback").none(),
           nb::sig("def __exit__(self, type: object, error: object, traceback: object) -> None"))
      .def_prop_ro("expired", &TimeoutScopeObject::expired, "Has its deadline passed?")
      .def_prop_ro("remaining", &TimeoutScopeObject::remaining, "Seconds left; None without a deadline.")
      .def("__repr__", &TimeoutScopeObject::repr);
  nb::class_<ShieldObject>(
      m, "shield", nb::is_final(),
      "with shield(): neither cancellation nor timeouts from outside end a wait in the block.\n\n"
      "For cleanup that must wait. A timeout within it counts. For one fiber at a time.")
      .def(nb::init<>())
      .def("__enter__", &ShieldObject::enter)
      .def(
          "__exit__", [](ShieldObject& self, nb::args) { self.exit(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def("__repr__", &ShieldObject::repr);
  nb::class_<GroupObject>(m, "_Group", nb::type_slots(g_group_slots))
      .def(nb::init<>())
      .def("_enter", &GroupObject::enter)
      .def("_spawn", &GroupObject::spawn)
      .def("_cancel", &GroupObject::cancel)
      .def(
          "__exit__",
          [](nb::handle self, nb::handle, nb::object error, nb::handle) {
            return nb::cast<GroupObject&>(self).exit(self, std::move(error));
          },
          nb::arg("type").none(), nb::arg("error").none(), nb::arg("traceback").none(),
          nb::sig("def __exit__(self, type: object, error: object, traceback: object) -> bool"));
  m.def("_patches", &detail::patches);
  m.def("_in_fiber", &detail::in_fiber);
  m.def(
      "wait_readable",
      [](nb::handle file, std::optional<Seconds> timeout) {
        return wait_for(descriptor_of(file), POLLIN, timeout);
      },
      nb::arg("file"), nb::arg("timeout") = nb::none(),
      "Wait until a descriptor, or an object with fileno(), can be read from, or is at its end.\n\n"
      "Return False after `timeout` seconds. A cancellation point. OSError (EBADF) if it is not open.");
  m.def(
      "wait_writable",
      [](nb::handle file, std::optional<Seconds> timeout) {
        return wait_for(descriptor_of(file), POLLOUT, timeout);
      },
      nb::arg("file"), nb::arg("timeout") = nb::none(),
      "Wait until a descriptor, or an object with fileno(), can be written to. As wait_readable().");
  // Its parameters have no names: a keyword "function" is the function's.
  m.def("to_thread", &to_thread,
        nb::sig("def to_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T"),
        "Call function(*args, **kwargs) on an OS thread while this fiber waits and others run.\n\n"
        "For what computes in C without the GIL, or blocks where nothing is patched. No cancellation point: "
        "it\n"
        "returns when the function has.");
}

}  // namespace weft::python
