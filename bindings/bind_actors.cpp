// weft.actor.ActorRef, and what the package's Actor and ActorRegistry are made of.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "actor_value.hpp"
#include "weft/detail/actor_timer.hpp"

namespace weft::python {

namespace {

PyTypeObject* g_ref_type = nullptr;

/// What an actor instance has, and nothing else: its end is the actor's, unless that runs.
class ActorCell {
 public:
  explicit ActorCell(PyActor& core) noexcept : core_(detail::Ref<PyActor>::adopt(&core)) {}
  ~ActorCell() {
    if (core_->abandon()) core_->call_watchers();
  }
  PyActor& core() const noexcept { return *core_; }

 private:
  detail::Ref<PyActor> core_;
};

/// ActorRef.actor_stopped: what Pykka's users know of a threading.Event.
struct StoppedEvent {
  detail::Ref<PyActor> core;
};

/// ActorRef.actor_inbox: what they know of a queue.
struct Inbox {
  detail::Ref<PyActor> core;
};

/// What ActorRef.tell_after() and tell_every() return.
class TimerObject {
 public:
  explicit TimerObject(detail::ActorTimer* timer) noexcept : timer_(timer) {}
  /// One of another process; has cancel().
  explicit TimerObject(nb::object remote) noexcept : remote_(std::move(remote)) {}
  ~TimerObject() {
    if (timer_) detail::actor_timer_release(*timer_);
  }
  TimerObject(const TimerObject&) = delete;
  TimerObject& operator=(const TimerObject&) = delete;
  bool cancel() {
    return timer_ ? detail::actor_timer_cancel(*timer_) : nb::cast<bool>(remote_.attr("cancel")());
  }

 private:
  detail::ActorTimer* timer_ = nullptr;
  nb::object remote_;
};

// What a timer sends each time; called on a thread that is not Python's.
const detail::TimerSource kTimerSource{[](void* argument) noexcept -> detail::Message* {
                                         if (!Py_IsInitialized() || finalizing()) return nullptr;
                                         return sheltered([&]() -> detail::Message* {
                                           const PyGILState_STATE state = PyGILState_Ensure();
                                           PyMessage* message = nullptr;
                                           try {
                                             message = PyMessage::of(static_cast<PyObject*>(argument));
                                           } catch (nb::python_error& error) {
                                             error.restore();
                                             PyErr_WriteUnraisable(static_cast<PyObject*>(argument));
                                           }
                                           PyGILState_Release(state);
                                           return message;
                                         });
                                       },
                                       [](void* argument) noexcept {
                                         if (!Py_IsInitialized() || finalizing()) return;
                                         sheltered([&] {
                                           const PyGILState_STATE state = PyGILState_Ensure();
                                           Py_DECREF(static_cast<PyObject*>(argument));
                                           PyGILState_Release(state);
                                         });
                                       },
                                       nullptr};

nb::object tell_later(PyActor& core, nb::handle message, Seconds seconds, bool again) {
  const Nanos first = deadline_of(seconds);
  Nanos period = 0;
  if (again) {
    if (!(seconds.value > 0))
      raise_error(PyExc_ValueError, "tell_every(period): the period must be above zero");
    period = std::max<Nanos>(first == detail::kNever ? first : static_cast<Nanos>(seconds.value * 1e9), 1);
  }
  if (core.remote())
    return nb::cast(new TimerObject(core.peer().attr("tell_later")(message, seconds.value, again)),
                    nb::rv_policy::take_ownership);
  if (!core.lives()) raise_text(actor_names.dead, core.text() + " not found");
  detail::TimerSource source = kTimerSource;
  source.argument = message.ptr();
  if (core.foreign())
    source = foreign_timer_source(core, message);
  else
    message.inc_ref();
  detail::ActorTimer* timer = detail::actor_timer_start(core.target(), first, period, source);
  if (!timer) {
    const int error = errno;
    source.release(source.argument);
    raise_errno(error);
  }
  return nb::cast(new TimerObject(timer), nb::rv_policy::take_ownership);
}

Overflow overflow_of(const char* policy) {
  for (auto [name, value] :
       {std::pair("block", Overflow::kBlock), {"drop", Overflow::kDrop}, {"raise", Overflow::kRaise}})
    if (strcmp(policy, name) == 0) return value;
  raise_error(PyExc_ValueError, "mailbox_policy must be 'block', 'drop' or 'raise'");
}

nb::object make_cell(nb::handle actor, nb::handle size, const char* policy, const char* isolation) {
  Mailbox mailbox;
  mailbox.overflow = overflow_of(policy);
  if (!size.is_none()) {
    if (!PyIndex_Check(size.ptr())) raise_error(PyExc_TypeError, "mailbox_size must be a number, or None");
    const Py_ssize_t items = PyNumber_AsSsize_t(size.ptr(), PyExc_OverflowError);
    if (items == -1 && PyErr_Occurred()) throw nb::python_error();
    if (items < 1) raise_error(PyExc_ValueError, "mailbox_size must be 1 or more, or None for no limit");
    mailbox.capacity = static_cast<size_t>(items);
  }
  return nb::cast(new ActorCell(*new PyActor(actor, mailbox, isolation_of(isolation))),
                  nb::rv_policy::take_ownership);
}

nb::object ask(const ActorRefObject& self, nb::handle message, bool block, std::optional<Seconds> timeout,
               bool urgent, std::optional<Seconds> within) {
  const Nanos end = deadline_of(timeout);
  nb::object future = self.core().ask(PyMessage::of(message), block ? timeout : std::nullopt, urgent, within);
  if (!block) return future;
  if (timeout && (self.core().target().limited() ||
                  self.core().remote()))  // some of it may have gone by until there was room
    timeout->value = std::max(0.0, static_cast<double>(end - detail::now()) * 1e-9);
  return nb::inst_ptr<FutureObject>(future)->get(timeout);
}

nb::object stop(const ActorRefObject& self, bool block, std::optional<Seconds> timeout, bool urgent) {
  nb::object asked = self.core().ask(new PyMessage(PyMessage::Kind::kStop, nb::none()), timeout, urgent);
  nb::object stopped = FutureObject::make();
  nb::inst_ptr<FutureObject>(stopped)->derive(FutureObject::Derived::kStopped, nb::make_tuple(asked),
                                              nb::none(), nb::none());
  return block ? nb::inst_ptr<FutureObject>(stopped)->get(timeout) : stopped;
}

nb::list registered() {
  std::vector<detail::Ref<PyActor>> actors;
  actors.reserve(detail::ActorCore::count());
  detail::ActorCore::for_each(
      [](void* list, detail::ActorCore& core) {
        auto& all = *static_cast<std::vector<detail::Ref<PyActor>>*>(list);
        PyActor* actor = PyActor::of(core);
        if (actor && !actor->pool()) all.push_back(detail::Ref<PyActor>::share(*actor));
        return true;
      },
      &actors);
  nb::list references;
  for (const auto& actor : actors) references.append(ActorRefObject::make(*actor));
  return references;
}

}  // namespace

PyActor& core_of(nb::handle reference) {
  if (!nb::isinstance<ActorRefObject>(reference)) {
    PyErr_Format(PyExc_TypeError, "an ActorRef is needed, not %.100s", Py_TYPE(reference.ptr())->tp_name);
    throw nb::python_error();
  }
  return nb::inst_ptr<ActorRefObject>(reference)->core();
}

nb::object ActorRefObject::make(PyActor& core) {
  nb::object self = nb::inst_alloc(nb::handle(reinterpret_cast<PyObject*>(g_ref_type)));
  new (nb::inst_ptr<void>(self)) ActorRefObject(core);
  nb::inst_mark_ready(self);
  return self;
}

void add_actors(nb::module_& m) {
  m.def("_set_actor_names", [](nb::dict names) {
    const auto name = [&](const char* key) { return nb::object(names[key]).release().ptr(); };
    actor_names = {name("ActorDeadError"), name("Timeout"),      name("MailboxFull"),  name("_ActorStop"),
                   name("ProxyCall"),      name("ProxyGetAttr"), name("ProxySetAttr"), name("hooks"),
                   name("ForeignError"),   name("ForeignActor")};
  });

  nb::class_<StoppedEvent>(m, "_StoppedEvent")
      .def("is_set", [](const StoppedEvent& self) { return !self.core->lives(); })
      .def("set",
           [](const StoppedEvent& self) {
             if (self.core->remote())
               self.core->peer().attr("mark_stopped")();
             else
               self.core->target().mark_stopped();
           })
      .def(
          "wait",
          [](const StoppedEvent& self, std::optional<Seconds> timeout) {
            const Nanos deadline = deadline_of(timeout);
            ensure_runtime_on_main();
            if (self.core->remote())
              return nb::cast<bool>(self.core->peer().attr("wait_stopped")(
                  timeout ? nb::object(nb::float_(timeout->value)) : nb::none()));
            const Outcome outcome = blocking([&] { return self.core->target().wait_stopped(deadline); });
            raise_outcome(outcome);
            return outcome == Outcome::kReady;
          },
          nb::arg("timeout") = nb::none(), nb::sig("def wait(self, timeout: float | None = None) -> bool"));

  nb::class_<Inbox>(m, "_Inbox")
      .def(
          "put",
          [](const Inbox& self, nb::handle envelope) {
            nb::object content = envelope.attr("message"), reply = envelope.attr("reply_to");
            if (!reply.is_none() && !nb::isinstance<FutureObject>(reply))
              raise_error(PyExc_TypeError, "an Envelope's reply_to must be a weft.actor.Future, or None");
            PyMessage* message = PyMessage::of(content);
            if (!reply.is_none()) message->reply = reply.release().ptr();
            self.core->tell(message, std::nullopt, false);
          },
          nb::arg("envelope"))
      .def("empty", [](const Inbox& self) { return self.core->counts().waiting == 0; })
      .def("qsize", [](const Inbox& self) { return self.core->counts().waiting; });

  nb::class_<TimerObject>(m, "MessageTimer", nb::is_final(),
                          "A message that is sent later, or again and again. Lives on without this handle.")
      .def("cancel", &TimerObject::cancel,
           "Send nothing more. Return False if nothing more would have been sent.");

  nb::class_<ActorRefObject> reference(
      m, "ActorRef", nb::is_generic(), nb::is_weak_referenceable(), nb::sig("class ActorRef(Generic[A_co])"),
      "An actor, to be handed round and sent messages to. Any thread or fiber.");
  reference
      .def_prop_ro(
          "actor_class", [](const ActorRefObject& self) { return nb::borrow(self.core().actor_class()); },
          nb::sig("def actor_class(self) -> type[A_co]"), "The actor's class.")
      .def_prop_ro(
          "actor_urn", [](const ActorRefObject& self) { return self.core().urn(); },
          "A name that no other actor has, anywhere: \"urn:uuid:...\".")
      .def_prop_ro(
          "actor_inbox",
          [](const ActorRefObject& self) { return Inbox{detail::Ref<PyActor>::share(self.core())}; },
          "Its mailbox, with put(), empty() and qsize().")
      .def_prop_ro(
          "actor_stopped",
          [](const ActorRefObject& self) { return StoppedEvent{detail::Ref<PyActor>::share(self.core())}; },
          "With is_set(), wait() and set(), as an Event.")
      .def_prop_ro("_actor_weakref",
                   [](nb::handle self) {
                     return nb::cpp_function([kept = nb::borrow(self)] {
                       return nb::inst_ptr<ActorRefObject>(kept)->core().actor();
                     });
                   })
      .def(
          "is_alive", [](const ActorRefObject& self) { return self.core().lives(); },
          "Can it be sent messages? It may stop at any moment. If it is in another process, that is asked.")
      .def(
          "tell",
          [](const ActorRefObject& self, nb::handle message, bool urgent, std::optional<Seconds> timeout) {
            self.core().tell(PyMessage::of(message), timeout, urgent);
          },
          nb::arg("message").none(), nb::kw_only(), nb::arg("urgent") = false,
          nb::arg("timeout") = nb::none(),
          nb::sig(
              "def tell(self, message: Any, *, urgent: bool = False, timeout: float | None = None) -> None"),
          "Send it a message, and do not wait for what comes of it. `urgent`: before those that are not.\n\n"
          "Raise ActorDeadError if it has stopped, MailboxFull if its mailbox is full and either raises or "
          "still is\n"
          "after `timeout` seconds. Waits, as a cancellation point, only for a full mailbox that blocks.")
      .def(
          "tell_after",
          [](const ActorRefObject& self, Seconds seconds, nb::handle message) {
            return tell_later(self.core(), message, seconds, false);
          },
          nb::arg("seconds").none(), nb::arg("message").none(),
          nb::sig("def tell_after(self, seconds: float, message: Any) -> MessageTimer"),
          "tell() it the message after that time; return a timer that can be cancelled.\n\n"
          "What cannot be sent then, because the actor has stopped or its mailbox is full, is dropped.")
      .def(
          "tell_every",
          [](const ActorRefObject& self, Seconds period, nb::handle message) {
            return tell_later(self.core(), message, period, true);
          },
          nb::arg("period").none(), nb::arg("message").none(),
          nb::sig("def tell_every(self, period: float, message: Any) -> MessageTimer"),
          "tell() it the message every so many seconds, for the first time after one period; return a "
          "timer.\n\n"
          "It ends when the timer is cancelled or the actor has stopped. Periods that are missed are left "
          "out.")
      .def(
          "ask", &ask, nb::arg("message").none(), nb::kw_only(), nb::arg("block") = true,
          nb::arg("timeout") = nb::none(), nb::arg("urgent") = false, nb::arg("within") = nb::none(),
          nb::sig("def ask(self, message: Any, *, block: bool = True, timeout: float | None = None, urgent: "
                  "bool = False, within: float | None = None) -> Any"),
          "Send it a message; return its answer, or raise what it raised. block=False: return a Future of "
          "that.\n\n"
          "Raise ActorDeadError if it has stopped, or stops before it comes to the message, "
          "weft.actor.Timeout after\n"
          "`timeout` seconds, RuntimeError where the caller is an actor that would wait for itself. A "
          "cancellation\n"
          "point. `within`: a deadline for the work, too. After so many seconds the message is not begun any "
          "more, and\n"
          "the cancellable waits of a handler that is at it, on a fiber, raise weft.Timeout.")
      .def("stop", &stop, nb::kw_only(), nb::arg("block") = true, nb::arg("timeout") = nb::none(),
           nb::arg("urgent") = false,
           nb::sig("def stop(self, *, block: bool = True, timeout: float | None = None, urgent: bool = "
                   "False) -> Any"),
           "Ask it to stop once it has handled what was sent before; `urgent`: after the message that it "
           "handles "
           "now.\n\n"
           "Return True when it has stopped, False if it had; block=False: a Future of that. Messages that "
           "it does\n"
           "not come to are answered with ActorDeadError.")
      .def(
          "proxy", [m](nb::handle self) { return m.attr("ActorProxy")(nb::arg("actor_ref") = self); },
          nb::sig("def proxy(self) -> ActorProxy[A_co]"),
          "Return an ActorProxy. Raise ActorDeadError if it has stopped.")
      .def(
          "__eq__",
          [](const ActorRefObject& self, nb::handle other) {
            return nb::isinstance<ActorRefObject>(other) &&
                   nb::inst_ptr<ActorRefObject>(other)->core().is_same(self.core());
          },
          nb::arg("other").none(), nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const ActorRefObject& self) { return self.core().hash(); })
      .def(
          "__reduce__",
          [](nb::handle self) { return nb::module_::import_("weft.actor._remote").attr("reduce")(self); },
          nb::sig("def __reduce__(self) -> tuple[Any, ...]"))
      .def(
          "__copy__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __copy__(self) -> ActorRef[A_co]"))
      .def(
          "__deepcopy__", [](nb::handle self, nb::handle) { return nb::borrow(self); }, nb::arg("memo"),
          nb::sig("def __deepcopy__(self, memo: object) -> ActorRef[A_co]"))
      .def("__str__", [](const ActorRefObject& self) { return self.core().text(); })
      .def("__repr__",
           [](const ActorRefObject& self) { return "<ActorRef for " + self.core().text() + ">"; });
  g_ref_type = reinterpret_cast<PyTypeObject*>(reference.ptr());

  nb::class_<ActorCell>(m, "_ActorCell").def("reference", [](const ActorCell& self) {
    return ActorRefObject::make(self.core());
  });
  m.def("_make_actor", &make_cell, nb::arg("actor"), nb::arg("mailbox_size").none(),
        nb::arg("mailbox_policy"), nb::arg("message_isolation"));
  m.def(
      "_hold_actor",
      [](nb::handle reference_, nb::handle arguments, nb::handle keywords) {
        core_of(reference_).hold_instance(arguments, keywords);
      },
      nb::arg(), nb::arg().none(), nb::arg().none());
  m.def("_run_actor", [](nb::handle reference_) { core_of(reference_).run_here(); });
  m.def("_start_actor", [](nb::handle reference_, const std::string& name, bool daemon) {
    core_of(reference_).start_fiber(name, daemon);
  });
  m.def("_wait_for_actors", &PyActor::wait_for_all);
  m.def("_retire_actors", &PyActor::retire);
  m.def("_forget_actors", &PyActor::forget_parents);
  m.def("_register_actor", [](nb::handle reference_) { return core_of(reference_).enlist(); });
  m.def("_unregister_actor", [](nb::handle reference_) { return core_of(reference_).delist(); });
  m.def("_abandon_actor", [](nb::handle reference_) { core_of(reference_).give_up(); });
  m.def("_running_actors", &PyActor::running);
  m.def("_registered_actors", &registered);
  m.def("_actor_statistics", [](nb::handle reference_) {
    const ActorStatistics s = core_of(reference_).counts();
    return nb::make_tuple(s.waiting, s.handled, s.failed, s.refused, static_cast<double>(s.busy_nanos) * 1e-9,
                          s.restarted);
  });
}

}  // namespace weft::python
