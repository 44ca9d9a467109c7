#include "actor_object.hpp"

#include <nanobind/stl/string.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "actor_value.hpp"
#include "weft/any_actor.hpp"

namespace weft::python {

using detail::Handled;

ActorNames actor_names;

namespace {

// Calls a function of weft.actor._hooks; what it raises is reported.
void hook(const char* name, std::initializer_list<PyObject*> arguments) {
  PyObject* function = PyObject_GetAttrString(actor_names.hooks, name);
  PyObject* answer =
      function ? PyObject_Vectorcall(function, arguments.begin(), arguments.size(), nullptr) : nullptr;
  if (!answer) PyErr_WriteUnraisable(function);
  Py_XDECREF(answer);
  Py_XDECREF(function);
}

}  // namespace

PyObject* imported(const char* module, const char* name) {
  return nb::object(nb::module_::import_(module).attr(name)).release().ptr();
}

void raise_text(PyObject* type, const std::string& text) {
  PyErr_SetString(type, text.c_str());
  throw nb::python_error();
}

PyObject* attribute_at(PyObject* root, PyObject* path, Py_ssize_t length) noexcept {
  PyObject* value = Py_NewRef(root);
  for (Py_ssize_t i = 0; value && i < length; ++i)
    Py_SETREF(value, PyObject_GetAttr(value, PyTuple_GET_ITEM(path, i)));
  return value;
}

// --- Messages.

PyObject* refusal(const std::string& actor, detail::Refusal why) {
  PyObject* error = nullptr;
  switch (why) {
    case detail::Refusal::kDropped:
      error = PyObject_CallFunction(actor_names.full, "s",
                                    ("the mailbox of " + actor + " is full, and drops messages").c_str());
      break;
    case detail::Refusal::kExpired:
      error = PyObject_CallFunction(
          actor_names.timeout, "s",
          ("the deadline of the message passed before " + actor + " came to it").c_str());
      break;
    case detail::Refusal::kStopped:
      error = PyObject_CallFunction(actor_names.dead, "s",
                                    (actor + " stopped before handling the message").c_str());
  }
  return error ? error : take_exception();
}

namespace {

void report_dead_letter(PyMessage& message, PyActor& actor, detail::Refusal why) {
  constexpr const char* kReasons[] = {"stopped", "full", "expired"};
  const nb::object handler = nb::borrow(actor_names.dead_letter_handler);  // it may be replaced meanwhile
  const nb::object content = message.as_sent(), reference = ActorRefObject::make(actor);
  if (content.is_valid())
    hook("dead_letter",
         {handler.ptr(), content.ptr(), reference.ptr(), nb::str(kReasons[static_cast<int>(why)]).ptr()});
  else
    PyErr_WriteUnraisable(nullptr);
}

void refuse(detail::Message& m, detail::ActorCore& core, detail::Refusal why) noexcept {
  apart([&] {
    auto& message = static_cast<PyMessage&>(m);
    if (message.reply) {
      PyObject* error = refusal(static_cast<PyActor&>(core).text(), why);
      nb::inst_ptr<FutureObject>(message.reply)->settle_error(error);
      Py_DECREF(error);
    } else if (actor_names.dead_letter_handler) {
      report_dead_letter(message, static_cast<PyActor&>(core), why);
    }
    PyMessage::drop(&message);
  });
}

void answer_stopped(detail::Message& m, detail::ActorCore&) noexcept {
  apart([&] {
    auto& message = static_cast<PyMessage&>(m);
    if (message.reply) nb::inst_ptr<FutureObject>(message.reply)->settle(nb::none());
    PyMessage::drop(&message);
  });
}

constinit const detail::MessageType kOrdinary{&refuse, nullptr};
constinit const detail::MessageType kStop{&refuse, &answer_stopped};

}  // namespace

PyMessage::PyMessage(Kind k, nb::handle message, PyObject* positional, PyObject* named) noexcept
    : kind(k),
      content(Py_NewRef(message.ptr())),
      arguments(Py_XNewRef(positional)),
      keywords(Py_XNewRef(named)) {
  type = kind == Kind::kStop ? &weft::python::kStop : &weft::python::kOrdinary;
}

void PyMessage::drop(PyMessage* message) {
  PyObject* const all[] = {message->content, message->arguments, message->keywords, message->reply};
  delete message;
  for (PyObject* each : all) Py_XDECREF(each);
}

nb::object PyMessage::as_sent() const {
  switch (kind) {
    case Kind::kCall: {
      nb::object named = keywords ? nb::borrow(keywords) : nb::object(nb::dict());
      return nb::steal(
          PyObject_CallFunctionObjArgs(actor_names.call, content, arguments, named.ptr(), nullptr));
    }
    case Kind::kGet:
      return nb::steal(PyObject_CallOneArg(actor_names.get, content));
    case Kind::kSet:
      return nb::steal(PyObject_CallFunctionObjArgs(actor_names.set, content, arguments, nullptr));
    case Kind::kOrdinary:
    case Kind::kStop:
      break;
  }
  return nb::borrow(content);
}

PyMessage* PyMessage::of(nb::handle message) {
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(message.ptr()));
  PyObject* fields = message.ptr();  // of a named tuple
  if (type == actor_names.stop) return new PyMessage(Kind::kStop, message);
  if (type == actor_names.call && PyTuple_GET_SIZE(fields) == 3) {
    nb::object path = nb::steal(PySequence_Tuple(PyTuple_GET_ITEM(fields, 0)));
    nb::object positional = nb::steal(PySequence_Tuple(PyTuple_GET_ITEM(fields, 1)));
    if (!path.is_valid() || !positional.is_valid()) throw nb::python_error();
    nb::object keywords = nb::borrow(PyTuple_GET_ITEM(fields, 2));
    if (!PyDict_Check(keywords.ptr())) {  // any mapping, as after **
      nb::dict copy;
      if (!PyMapping_Check(keywords.ptr()) || PyDict_Update(copy.ptr(), keywords.ptr()) != 0) {
        PyErr_Clear();
        raise_error(PyExc_TypeError, "ProxyCall: kwargs must be a mapping of names to values");
      }
      keywords = copy;
    }
    return new PyMessage(Kind::kCall, path, positional.ptr(), keywords.ptr());
  }
  if (type == actor_names.get || type == actor_names.set) {
    nb::object path = nb::steal(PySequence_Tuple(PyTuple_GET_ITEM(fields, 0)));
    if (!path.is_valid()) throw nb::python_error();
    return type == actor_names.get ? new PyMessage(Kind::kGet, path)
                                   : new PyMessage(Kind::kSet, path, PyTuple_GET_ITEM(fields, 1));
  }
  return new PyMessage(Kind::kOrdinary, message);
}

// --- The actor.

constinit const detail::ActorType PyActor::kType{
    // More than the interpreter's switch interval. An OS thread that wants the GIL asks for it when it has
    // not been let go for so long; who lets it go for a moment every millisecond is never asked, and hardly
    // ever gives it.
    .turn = 6'000'000,
    .lost_at_fork = false,  // forget_parents(), with the GIL
    .enter = [](ActorCore& self, void* worker) noexcept { static_cast<PyActor&>(self).enter(worker); },
    .leave = [](ActorCore& self) noexcept { static_cast<PyActor&>(self).leave(); },
    .begin =
        [](ActorCore& self) noexcept {
          return sheltered([&] { return static_cast<PyActor&>(self).begin(); });
        },
    .renew =
        [](ActorCore& self) noexcept {
          return sheltered([&] { return static_cast<PyActor&>(self).renew(); });
        },
    .handle =
        [](ActorCore& self, detail::Message& message) noexcept {
          return sheltered(
              [&] { return static_cast<PyActor&>(self).handle_message(static_cast<PyMessage&>(message)); });
        },
    .receive =
        [](ActorCore& self, detail::ValueMessage& message) noexcept {
          return sheltered([&] { return static_cast<PyActor&>(self).receive(message); });
        },
    .failed =
        [](ActorCore& self) noexcept { sheltered([&] { static_cast<PyActor&>(self).report_failure(); }); },
    .child_failed =
        [](ActorCore& self, ActorCore& child) noexcept {
          return sheltered(
              [&] { return static_cast<PyActor&>(self).handle_failure_of(static_cast<PyActor&>(child)); });
        },
    .forget_failure =
        [](ActorCore& self) noexcept { apart([&] { Py_CLEAR(static_cast<PyActor&>(self).error_); }); },
    .end = [](ActorCore& self) noexcept { sheltered([&] { static_cast<PyActor&>(self).end(); }); },
    .discard =
        [](ActorCore& self) noexcept {
          auto& actor = static_cast<PyActor&>(self);
          sheltered([&] {
            Py_CLEAR(actor.held_);
            Py_CLEAR(actor.arguments_);
            Py_CLEAR(actor.keywords_);
            actor.call_watchers();
          });
        },
    .name = [](const ActorCore& self) noexcept -> const char* {
      return reinterpret_cast<PyTypeObject*>(static_cast<const PyActor&>(self).class_)->tp_name;
    },
    .methods = nullptr,
};

PyActor::PyActor(nb::handle actor, const Mailbox& mailbox, Isolation isolation)
    : ActorCore(kType, &destroy, mailbox),
      isolation_(isolation),
      class_(Py_NewRef(reinterpret_cast<PyObject*>(Py_TYPE(actor.ptr())))),
      weak_(PyWeakref_NewRef(actor.ptr(), nullptr)) {
  if (!weak_) {
    Py_DECREF(class_);
    throw nb::python_error();
  }
}

void PyActor::destroy(Completion& self) noexcept {
  apart([&] {
    auto* actor = static_cast<PyActor*>(&self);
    PyObject* const all[] = {actor->class_,    actor->weak_,  actor->held_, actor->arguments_,
                             actor->keywords_, actor->error_, actor->peer_, actor->watchers_};
    delete actor;
    for (PyObject* each : all) Py_XDECREF(each);
  });
}

PyActor* PyActor::of(detail::ActorCore& core) noexcept {
  return &core.type() == &kType ? static_cast<PyActor*>(&core) : nullptr;
}

nb::object PyActor::actor() const {
  if (peer_ || foreign_) return nb::none();
#if PY_VERSION_HEX >= 0x030d0000
  PyObject* instance = nullptr;
  PyWeakref_GetRef(weak_, &instance);
  return instance ? nb::steal(instance) : nb::none();
#else
  return nb::borrow(PyWeakref_GetObject(weak_));
#endif
}

std::string PyActor::urn() const {
  return detail::urn_of(*this);
}

std::string PyActor::text() const {
  if (foreign_) return text_of(*foreign_);
  if (peer_) return nb::cast<nb::str>(nb::handle(peer_).attr("text")).c_str();
  nb::object name = nb::handle(class_).attr("__name__");
  return std::string(nb::cast<nb::str>(name).c_str()) + " (" + urn() + ")";
}

void PyActor::hold_instance(nb::handle arguments, nb::handle keywords) {
  nb::object instance = actor();
  if (held_ || instance.is_none()) return;
  held_ = instance.release().ptr();
  if (!arguments.is_none()) {
    arguments_ = Py_NewRef(arguments.ptr());
    keywords_ = Py_NewRef(keywords.ptr());
  }
}

void PyActor::set_actor_class(nb::handle actor_class) {
  Py_SETREF(class_, Py_NewRef(actor_class.ptr()));
}

void PyActor::wait_until_begun() {
  if (peer_ && !running_here()) nb::handle(peer_).attr("wait_until_begun")();
  if (begun() || !held_ || running_here()) return;  // actors that wait so for each other would do it for ever
  ensure_runtime_on_main();
  raise_outcome(blocking([&] { return wait_begun(detail::kNever); }));
}

void PyActor::give_up() noexcept {
  if (!abandon()) return;
  Py_CLEAR(held_);
  call_watchers();
}

// False: it was not taken; *outcome tells why.
bool PyActor::send(detail::Message& message, std::optional<Seconds> timeout, bool urgent, Outcome* outcome) {
  const Nanos deadline = deadline_of(timeout);
  ActorCore& to = target();
  *outcome = to.send(message, 0, urgent);  // mostly without letting the GIL go
  if (*outcome == Outcome::kTimeout && to.overflow() == Overflow::kBlock) {
    ensure_runtime_on_main();
    *outcome = blocking([&] { return to.send(message, deadline, urgent); });
  }
  return *outcome == Outcome::kReady;
}

// To be called where it was not taken.
void PyActor::raise_unsent(Outcome outcome) {
  if (outcome == Outcome::kClosed) raise_text(actor_names.dead, text() + " not found");
  if (outcome == Outcome::kTimeout) raise_text(actor_names.full, "the mailbox of " + text() + " is full");
  if (outcome == Outcome::kSelf)
    raise_text(PyExc_RuntimeError, "deadlock: the mailbox of " + text() +
                                       " is full, and the actor itself would wait for room in it: "
                                       "make it larger, or have it raise or drop");
  raise_outcome(outcome);
  throw std::bad_alloc();
}

// Which of a pool's actors a message is for; this one where it is no pool, or an empty one.
detail::Ref<PyActor> PyActor::receiver(const PyMessage& message) {
  ActorCore* chosen = pool() && message.kind != PyMessage::Kind::kStop ? route() : nullptr;
  return chosen ? detail::Ref<PyActor>::adopt(static_cast<PyActor*>(chosen))
                : detail::Ref<PyActor>::share(*this);
}

nb::object PyActor::model() {
  if (!pool()) return actor();
  detail::Ref<PyActor> first;
  for_each_child(
      [](void* argument, ActorCore& child) {
        auto& found = *static_cast<detail::Ref<PyActor>*>(argument);
        if (!found) found = detail::Ref<PyActor>::share(static_cast<PyActor&>(child));
      },
      &first);
  return first ? first->actor() : nb::none();
}

void PyActor::tell(PyMessage* message, std::optional<Seconds> timeout, bool urgent) {
  if (const detail::Ref<PyActor> chosen = receiver(*message); chosen.get() != this)
    return chosen->tell_here(message, timeout, urgent, this);
  tell_here(message, timeout, urgent, nullptr);
}

// `pool`: which chose this actor, and may choose another, or null.
void PyActor::tell_here(PyMessage* message, std::optional<Seconds> timeout, bool urgent, PyActor* pool) {
  if (foreign_) return tell_foreign(message, timeout, urgent);
  if (peer_) return forward(message, timeout, urgent);
  Outcome outcome;
  try {
    if (isolation_ != Isolation::kShare) isolate(*message, isolation_);
    if (send(*message, timeout, urgent, &outcome)) return;
  } catch (...) {
    PyMessage::drop(message);
    throw;
  }
  if (pool && outcome == Outcome::kClosed)
    if (const detail::Ref<PyActor> other = pool->receiver(*message); other.get() != pool) {
      if (message->reply) nb::inst_ptr<FutureObject>(message->reply)->redirect(*other);
      return other->tell_here(message, timeout, urgent, pool);
    }
  PyMessage::drop(message);
  raise_unsent(outcome);
}

nb::object PyActor::ask(PyMessage* message, std::optional<Seconds> timeout, bool urgent,
                        std::optional<Seconds> within) {
  const detail::Ref<PyActor> chosen = receiver(*message);
  nb::object future = FutureObject::make(chosen.get());
  message->reply = nb::handle(future).inc_ref().ptr();
  if (within) {
    try {
      message->deadline = deadline_of(within);
    } catch (...) {
      PyMessage::drop(message);
      throw;
    }
    nb::inst_ptr<FutureObject>(future)->set_deadline(message->deadline);
  }
  try {
    chosen->tell_here(message, timeout, urgent, chosen.get() == this ? nullptr : this);
  } catch (nb::python_error& error) {
    // What the future has in Pykka; else it was the sending that did not end.
    if (!error.matches(actor_names.dead)) throw;
    nb::inst_ptr<FutureObject>(future)->settle_error(error.value().ptr());
  }
  return future;
}

void PyActor::interrupt_for(const FutureObject& reply) noexcept {
  if (answering_ == &reply && !interrupted_) interrupted_ = interrupt();
}

// Lets go of what one of its methods returned; where it raised instead (null), has that logged, and is false.
bool PyActor::succeeded(PyObject* answer) {
  if (answer) {
    Py_DECREF(answer);
    return true;
  }
  PyObject* error = take_exception();
  const nb::object self = held_ ? nb::borrow(held_) : ActorRefObject::make(*this);
  hook("unhandled", {self.ptr(), error});
  Py_XSETREF(error_, error);
  return false;
}

bool PyActor::begin() {
  return succeeded(PyObject_CallMethod(held_, "on_start", nullptr));
}

bool PyActor::renew() {
  Py_CLEAR(held_);  // it may own what the next one needs
  const nb::object self = ActorRefObject::make(*this);
  PyObject* made = PyObject_CallMethod(actor_names.hooks, "renew", "OOOO", class_, self.ptr(), arguments_,
                                       keywords_ ? keywords_ : Py_None);
  PyObject* weak = made ? PyWeakref_NewRef(made, nullptr) : nullptr;
  if (!weak) {
    Py_XDECREF(made);
    return succeeded(nullptr);
  }
  held_ = made;
  Py_SETREF(weak_, weak);
  return true;
}

// What a child failed with is what this one fails with, unless on_child_failure() says otherwise.
Handled PyActor::handle_failure_of(PyActor& child) {
  const nb::object reference = ActorRefObject::make(child);
  PyObject* error = child.error_ ? child.error_ : Py_None;
  PyObject* answer = PyObject_CallMethod(held_, "on_child_failure", "OO", reference.ptr(), error);
  return succeeded(answer) ? Handled::kDone : Handled::kFailed;
}

// What the message asks for. A new reference, or null with an exception.
PyObject* PyActor::perform(PyMessage& message) {
  switch (message.kind) {
    case PyMessage::Kind::kOrdinary: {
      static PyObject* name = PyUnicode_InternFromString("on_receive");
      return PyObject_CallMethodOneArg(held_, name, message.content);
    }
    case PyMessage::Kind::kCall: {
      const Py_ssize_t length = PyTuple_GET_SIZE(message.content);
      PyObject* function = attribute_at(held_, message.content, length);
      PyObject* result = function ? PyObject_Call(function, message.arguments, message.keywords) : nullptr;
      Py_XDECREF(function);
      return result;
    }
    case PyMessage::Kind::kGet:
      return attribute_at(held_, message.content, PyTuple_GET_SIZE(message.content));
    case PyMessage::Kind::kSet: {
      const Py_ssize_t last = PyTuple_GET_SIZE(message.content) - 1;
      if (last < 0) {
        PyErr_SetString(PyExc_ValueError, "ProxySetAttr: the path has no attribute in it");
        return nullptr;
      }
      PyObject* owner = attribute_at(held_, message.content, last);
      const int result =
          owner ? PyObject_SetAttr(owner, PyTuple_GET_ITEM(message.content, last), message.arguments) : -1;
      Py_XDECREF(owner);
      return result == 0 ? Py_NewRef(Py_None) : nullptr;
    }
    case PyMessage::Kind::kStop:
      break;
  }
  Py_RETURN_NONE;
}

// What is sent back instead; null with an exception. Takes `answer`.
PyObject* PyActor::isolate_answer(PyObject* answer) {
  const nb::object taken = nb::steal(answer);
  try {
    return isolated(taken, isolation_).release().ptr();
  } catch (nb::python_error& error) {
    error.restore();
    return nullptr;
  }
}

Handled PyActor::handle_message(PyMessage& message) {
  FutureObject* reply = message.reply ? nb::inst_ptr<FutureObject>(message.reply) : nullptr;
  if (reply && reply->cancelled()) {
    PyMessage::drop(&message);
    return Handled::kDone;
  }
  answering_ = reply;
  PyObject* result = perform(message);
  if (result && reply && isolation_ != Isolation::kShare) result = isolate_answer(result);
  answering_ = nullptr;
  if (interrupted_) {
    interrupted_ = false;
    end_interrupt();
  }
  if (result) [[likely]] {
    if (reply)
      reply->settle(nb::steal(result));
    else
      Py_DECREF(result);
    PyMessage::drop(&message);
    return Handled::kDone;
  }
  PyObject* error = take_exception();
  if (reply && message.deadline <= detail::now() &&
      Py_TYPE(error) == reinterpret_cast<PyTypeObject*>(exceptions.timeout)) {
    // Of the scope that the message's deadline made: what get() would raise.
    PyObject* timeout =
        PyObject_CallFunction(actor_names.timeout, "s", "the deadline of the message has passed");
    if (!timeout) timeout = take_exception();
    PyException_SetCause(timeout, error);
    error = timeout;
  }
  const auto answer = [](void* to, PyObject* why) { static_cast<FutureObject*>(to)->settle_error(why); };
  const Handled how = raised(error, reply ? +answer : nullptr, reply);
  Py_DECREF(error);
  PyMessage::drop(&message);
  return how;
}

// What becomes of what the handler of a message raised. `answer(to, error)` answers who asked; null: it was
// told.
Handled PyActor::raised(PyObject* error, void (*answer)(void* to, PyObject* error), void* to) {
  if (!PyErr_GivenExceptionMatches(error, PyExc_Exception) &&
      !PyErr_GivenExceptionMatches(error, exceptions.cancelled)) {
    // Such as KeyboardInterrupt: all are to stop.
    hook("fatal", {held_, error});
    if (mark_stopped()) end();
    if (answer) answer(to, error);
    hook("stop_all", {});
    return Handled::kStop;
  }
  if (answer) {
    hook("returned", {held_, error});
    answer(to, error);
    return Handled::kDone;
  }
  hook("unhandled", {held_, error});
  Py_XSETREF(error_, Py_NewRef(error));
  return Handled::kFailed;
}

void PyActor::report_failure() {
  PyObject* error = Py_NewRef(error_);
  PyObject* traceback = PyException_GetTraceback(error);
  PyObject* handled = PyErr_GetHandledException();
  PyErr_SetHandledException(error);  // for sys.exc_info(), logger.exception()
  PyObject* answer =
      PyObject_CallMethod(held_, "on_failure", "OOO", reinterpret_cast<PyObject*>(Py_TYPE(error)), error,
                          traceback ? traceback : Py_None);
  PyErr_SetHandledException(handled);
  Py_XDECREF(handled);
  PyObject* why = Py_NewRef(error);  // and not what the hook raised
  succeeded(answer);
  Py_XSETREF(error_, why);
  Py_XDECREF(traceback);
  Py_DECREF(error);
}

void PyActor::end() {
  hook("stopped", {held_});
  succeeded(PyObject_CallMethod(held_, "on_stop", nullptr));
}

}  // namespace weft::python
