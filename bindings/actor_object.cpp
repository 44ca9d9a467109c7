#include "actor_object.hpp"

#include <nanobind/stl/string.h>

#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>
#include <vector>

#include "weft/detail/task.hpp"

namespace weft::python {

using detail::Handled;

ActorNames actor_names;

namespace {

// Guarded by the GIL: the actors by the threads of control that they have.
std::unordered_map<PyThreadState*, PyActor*> g_running;

// Actors on fibers that keep the program from ending.
std::atomic<uint32_t> g_foreground{0};

// Calls a function of weft.actor._hooks; what it raises is reported.
void hook(const char* name, std::initializer_list<PyObject*> arguments) {
  PyObject* function = PyObject_GetAttrString(actor_names.hooks, name);
  PyObject* answer =
      function ? PyObject_Vectorcall(function, arguments.begin(), arguments.size(), nullptr) : nullptr;
  if (!answer) PyErr_WriteUnraisable(function);
  Py_XDECREF(answer);
  Py_XDECREF(function);
}

// Lets go of what a method of the actor's returned; where it raised instead (null), has that logged, and is
// false.
bool succeeded(PyObject* actor, PyObject* answer) {
  if (answer) {
    Py_DECREF(answer);
    return true;
  }
  PyObject* error = take_exception();
  hook("unhandled", {actor, error});
  Py_DECREF(error);
  return false;
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

namespace {

/// Runs Python code for a message or an actor whose end comes anywhere: without the GIL, or amid an
/// exception.
template <typename F>
void apart(F&& function) noexcept {
  if (!Py_IsInitialized()) return;
  sheltered([&] {
    const PyGILState_STATE state = PyGILState_Ensure();
    PyObject* pending = take_exception();
    function();
    if (pending) {
      set_exception(pending);
      Py_DECREF(pending);
    }
    PyGILState_Release(state);
  });
}

PyObject* refusal(detail::ActorCore& core, detail::Refusal why) {
  const std::string text = static_cast<PyActor&>(core).text();
  switch (why) {
    case detail::Refusal::kDropped:
      return PyObject_CallFunction(actor_names.full, "s",
                                   ("the mailbox of " + text + " is full, and drops messages").c_str());
    case detail::Refusal::kExpired:
      return PyObject_CallFunction(
          actor_names.timeout, "s",
          ("the deadline of the message passed before " + text + " came to it").c_str());
    case detail::Refusal::kStopped:
      break;
  }
  return PyObject_CallFunction(actor_names.dead, "s",
                               (text + " stopped before handling the message").c_str());
}

void refuse(detail::Message& m, detail::ActorCore& core, detail::Refusal why) noexcept {
  apart([&] {
    auto& message = static_cast<PyMessage&>(m);
    if (message.reply) {
      PyObject* error = refusal(core, why);
      if (!error) error = take_exception();
      nb::inst_ptr<FutureObject>(message.reply)->settle_error(error);
      Py_DECREF(error);
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
    .enter = [](ActorCore& self) noexcept { take_gil(static_cast<PyActor&>(self).state_); },
    .leave = [](ActorCore&) noexcept { PyEval_SaveThread(); },
    .begin =
        [](ActorCore& self) noexcept {
          return sheltered([&] { return static_cast<PyActor&>(self).begin(); });
        },
    .handle =
        [](ActorCore& self, detail::Message& message) noexcept {
          return sheltered(
              [&] { return static_cast<PyActor&>(self).handle_message(static_cast<PyMessage&>(message)); });
        },
    .failed =
        [](ActorCore& self) noexcept { sheltered([&] { static_cast<PyActor&>(self).report_failure(); }); },
    .end = [](ActorCore& self) noexcept { sheltered([&] { static_cast<PyActor&>(self).end(); }); },
    .discard =
        [](ActorCore& self) noexcept {
          auto& actor = static_cast<PyActor&>(self);
          sheltered([&] { Py_CLEAR(actor.held_); });
        },
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
    PyObject* const all[] = {actor->class_, actor->weak_, actor->held_, actor->error_};
    delete actor;
    for (PyObject* each : all) Py_XDECREF(each);
  });
}

PyActor* PyActor::of(detail::ActorCore& core) noexcept {
  return &core.type() == &kType ? static_cast<PyActor*>(&core) : nullptr;
}

PyActor* PyActor::running_here() noexcept {
  const auto found = g_running.find(PyThreadState_Get());
  return found == g_running.end() ? nullptr : found->second;
}

nb::object PyActor::actor() const {
#if PY_VERSION_HEX >= 0x030d0000
  PyObject* instance = nullptr;
  PyWeakref_GetRef(weak_, &instance);
  return instance ? nb::steal(instance) : nb::none();
#else
  return nb::borrow(PyWeakref_GetObject(weak_));
#endif
}

std::string PyActor::urn() const {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "urn:uuid:";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[uuid()[i] >> 4];
    text += kDigits[uuid()[i] & 15];
  }
  return text;
}

std::string PyActor::text() const {
  nb::object name = nb::handle(class_).attr("__name__");
  return std::string(nb::cast<nb::str>(name).c_str()) + " (" + urn() + ")";
}

void PyActor::hold_instance() {
  nb::object instance = actor();
  if (!held_ && !instance.is_none()) held_ = instance.release().ptr();
}

void PyActor::wait_until_begun() {
  if (begun() || !held_ || running_here()) return;  // actors that wait so for each other would do it for ever
  ensure_runtime_on_main();
  raise_outcome(blocking([&] { return wait_begun(detail::kNever); }));
}

void PyActor::give_up() noexcept {
  if (abandon()) Py_CLEAR(held_);
}

nb::dict PyActor::running() {
  nb::dict names;
  for (const auto& [state, actor] : g_running) names[nb::int_(state->thread_id)] = actor->text();
  return names;
}

// False: it was not taken; *outcome tells why.
bool PyActor::send(PyMessage* message, std::optional<Seconds> timeout, bool urgent, Outcome* outcome) {
  const Nanos deadline = deadline_of(timeout);
  *outcome = ActorCore::send(*message, 0, urgent);  // mostly without letting the GIL go
  if (*outcome == Outcome::kTimeout && overflow() == Overflow::kBlock) {
    ensure_runtime_on_main();
    *outcome = blocking([&] { return ActorCore::send(*message, deadline, urgent); });
  }
  return *outcome == Outcome::kReady;
}

void PyActor::tell(PyMessage* message, std::optional<Seconds> timeout, bool urgent) {
  Outcome outcome;
  try {
    if (isolation_ != Isolation::kShare) isolate(*message, isolation_);
    if (send(message, timeout, urgent, &outcome)) return;
  } catch (...) {
    PyMessage::drop(message);
    throw;
  }
  PyMessage::drop(message);
  if (outcome == Outcome::kClosed) raise_text(actor_names.dead, text() + " not found");
  if (outcome == Outcome::kTimeout) raise_text(actor_names.full, "the mailbox of " + text() + " is full");
  if (outcome == Outcome::kSelf)
    raise_text(PyExc_RuntimeError, "deadlock: the mailbox of " + text() +
                                       " is full, and the actor itself would wait for room in it: "
                                       "make it larger, or have it raise or drop");
  raise_outcome(outcome);
}

nb::object PyActor::ask(PyMessage* message, std::optional<Seconds> timeout, bool urgent,
                        std::optional<Seconds> within) {
  nb::object future = FutureObject::make(this);
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
    tell(message, timeout, urgent);
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

bool PyActor::begin() {
  return succeeded(held_, PyObject_CallMethod(held_, "on_start", nullptr));
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
  Handled how = Handled::kDone;
  if (!PyErr_GivenExceptionMatches(error, PyExc_Exception) &&
      !PyErr_GivenExceptionMatches(error, exceptions.cancelled)) {
    // Such as KeyboardInterrupt: all are to stop.
    hook("fatal", {held_, error});
    if (mark_stopped()) end();
    if (reply) reply->settle_error(error);
    hook("stop_all", {});
    how = Handled::kStop;
  } else if (reply) {
    if (message.deadline <= detail::now() &&
        Py_TYPE(error) == reinterpret_cast<PyTypeObject*>(exceptions.timeout)) {
      // Of the scope that the message's deadline made: what get() would raise.
      PyObject* timeout =
          PyObject_CallFunction(actor_names.timeout, "s", "the deadline of the message has passed");
      if (!timeout) timeout = take_exception();
      PyException_SetCause(timeout, error);
      error = timeout;
    }
    hook("returned", {held_, error});
    reply->settle_error(error);
  } else {
    hook("unhandled", {held_, error});
    Py_XSETREF(error_, Py_NewRef(error));
    how = Handled::kFailed;
  }
  Py_DECREF(error);
  PyMessage::drop(&message);
  return how;
}

void PyActor::report_failure() {
  PyObject* error = std::exchange(error_, nullptr);
  PyObject* traceback = PyException_GetTraceback(error);
  PyObject* handled = PyErr_GetHandledException();
  PyErr_SetHandledException(error);  // for sys.exc_info(), logger.exception()
  PyObject* answer =
      PyObject_CallMethod(held_, "on_failure", "OOO", reinterpret_cast<PyObject*>(Py_TYPE(error)), error,
                          traceback ? traceback : Py_None);
  PyErr_SetHandledException(handled);
  Py_XDECREF(handled);
  succeeded(held_, answer);
  Py_XDECREF(traceback);
  Py_DECREF(error);
}

void PyActor::end() {
  hook("stopped", {held_});
  succeeded(held_, PyObject_CallMethod(held_, "on_stop", nullptr));
}

// --- What it runs on.

class PyActor::Task final : public detail::Task {
 public:
  Task(PyActor& actor, bool daemon) noexcept
      : detail::Task(&run,
                     [](Completion& self) noexcept {
                       auto* task = static_cast<Task*>(&self);
                       task->dispose();
                       delete task;
                     }),
        actor_(detail::Ref<PyActor>::share(actor)),
        daemon_(daemon) {}

 private:
  static void run(detail::Task& task) {
    auto& self = static_cast<Task&>(task);
    PyThreadState* state = PyThreadState_New(PyInterpreterState_Main());
    if (!state) Py_FatalError("weft: no memory for an actor's thread state");
    take_gil(state);
    follow_tracers();
    self.actor_->run_here();
    self.complete();
    leave_interpreter();
    if (!self.daemon_ && g_foreground.fetch_sub(1, std::memory_order_acq_rel) == 1)
      detail::wake(&g_foreground);
  }

  detail::Ref<PyActor> actor_;
  const bool daemon_;
};

void PyActor::run_here() {
  const detail::Ref<PyActor> kept = detail::Ref<PyActor>::share(*this);
  state_ = PyThreadState_Get();
  g_running[state_] = this;
  PyEval_SaveThread();
  run();
  take_gil(state_);
  g_running.erase(state_);
}

void PyActor::wait_for_fibers() {
  raise_outcome(blocking([] {
    return detail::await(&g_foreground, detail::kNever, detail::kCancellable, "the end of all actors",
                         []() noexcept { return g_foreground.load(std::memory_order_acquire) == 0; });
  }));
}

void PyActor::forget_parents() {
  PyThreadState* here = PyThreadState_Get();
  std::vector<detail::Ref<PyActor>> all;
  const auto add = [&](PyActor& actor) { all.push_back(detail::Ref<PyActor>::share(actor)); };
  for (const auto& [state, actor] : g_running)
    if (state != here) add(*actor);
  for_each(
      [](void* argument, ActorCore& core) {
        if (PyActor* actor = of(core)) (*static_cast<decltype(add)*>(argument))(*actor);
        return true;
      },
      const_cast<void*>(static_cast<const void*>(&add)));
  std::erase_if(g_running, [&](const auto& each) { return each.first != here; });
  g_foreground.store(0);
  for (const auto& actor : all) {
    if (actor->runs_here()) continue;
    actor->lose();
    if (actor->answering_) actor->answering_->lose();
  }
}

void PyActor::start_fiber(const std::string& name, bool daemon) {
  ensure_runtime();
  const auto task = detail::Ref<Task>::adopt(new Task(*this, daemon));
  detail::TaskOptions options;
  options.name = name.c_str();
  options.name_length = name.size();
  if (!daemon) g_foreground.fetch_add(1, std::memory_order_relaxed);
  if (const int error = task->start(options)) {
    if (!daemon) g_foreground.fetch_sub(1, std::memory_order_relaxed);
    if (error != ENOMEM && error != EAGAIN) raise_errno(error);
    raise_text(PyExc_MemoryError, std::string("no memory for another actor's fiber (") + strerror(error) +
                                      "); see 'weft doctor'");
  }
}

}  // namespace weft::python
