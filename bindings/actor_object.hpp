// Python's actors: what weft::detail::ActorCore must know of them, and their messages.
#pragma once

#include <cxxabi.h>

#include <string>

#include "actor_future.hpp"
#include "python.hpp"
#include "weft/detail/actor.hpp"
#include "weft/detail/value_message.hpp"

namespace weft::python {

/// Names of the package that this needs; borrowed, as long as the module lives.
struct ActorNames {
  PyObject* dead = nullptr;     // ActorDeadError
  PyObject* timeout = nullptr;  // Timeout
  PyObject* full = nullptr;     // MailboxFull
  PyObject* stop = nullptr;     // message types
  PyObject* call = nullptr;
  PyObject* get = nullptr;
  PyObject* set = nullptr;
  PyObject* hooks = nullptr;                // weft.actor._hooks
  PyObject* foreign_error = nullptr;        // ForeignError
  PyObject* foreign_actor = nullptr;        // ForeignActor
  PyObject* dead_letter_handler = nullptr;  // the program's, with a reference; may be null
};
extern ActorNames actor_names;

struct PyMessage final : detail::Message {
  enum class Kind : uint8_t { kOrdinary, kStop, kCall, kGet, kSet };

  PyMessage(Kind k, nb::handle message, PyObject* positional = nullptr, PyObject* named = nullptr) noexcept;
  PyMessage(const PyMessage&) = delete;
  PyMessage& operator=(const PyMessage&) = delete;
  /// Of any object; knows Pykka's messages.
  static PyMessage* of(nb::handle message);
  /// The message as weft.actor.messages has it. Null with an exception.
  nb::object as_sent() const;
  /// Instead of the destructor, which Python code must not be called in: it may be unwound.
  static void drop(PyMessage* message);

  Kind kind;
  PyObject* content;              // kCall, kGet, kSet: the path, a tuple
  PyObject* arguments = nullptr;  // kCall: a tuple; kSet: the value
  PyObject* keywords = nullptr;   // kCall: a dictionary, or null
  PyObject* reply = nullptr;      // a FutureObject, or null
};

/// What becomes of messages to an actor, and of its answers.
enum class Isolation : uint8_t { kShare, kCopy, kFreeze };
/// Raises ValueError.
Isolation isolation_of(const char* name);
/// Raises TypeError for what cannot be copied, or frozen.
nb::object isolated(nb::handle object, Isolation how);
void isolate(PyMessage& message, Isolation how);

class PyActor final : public detail::ActorCore {
 public:
  PyActor(nb::handle actor, const Mailbox& mailbox, Isolation isolation);
  /// Stands for an actor of another language, in an ActorRef.
  explicit PyActor(detail::ActorCore& foreign);
  /// Stands for one of another process; see stand_for().
  PyActor(nb::handle actor_class, const uint8_t (&uuid)[16], nb::object peer);

  /// `core` if it is of this kind, else null.
  static PyActor* of(detail::ActorCore& core) noexcept;

  bool foreign() const noexcept { return static_cast<bool>(foreign_); }
  /// The actor itself, where it stands for one.
  detail::ActorCore& target() noexcept { return foreign_ ? *foreign_ : *this; }
  /// By name: True.
  nb::dict foreign_methods() const;

  /// The instance; none if it is no more.
  nb::object actor() const;
  nb::handle actor_class() const noexcept { return class_; }
  /// The instance that proxies are to be like: of a pool, one of its actors.
  nb::object model();
  /// A pool: its actors are of that class.
  void set_actor_class(nb::handle actor_class);
  /// "urn:uuid:..."
  std::string urn() const;
  /// "Class (urn:uuid:...)"
  std::string text() const;

  /// Raises ActorDeadError, MailboxFull, or how the wait ended. Takes `message`.
  void tell(PyMessage* message, std::optional<Seconds> timeout, bool urgent);
  /// The same, but what it would raise is what the future gets, as far as Pykka does so. `within`: as
  /// detail::Message::deadline.
  nb::object ask(PyMessage* message, std::optional<Seconds> timeout, bool urgent,
                 std::optional<Seconds> within = std::nullopt);
  /// The answer that is being worked on is not wanted any more, if it is that one.
  void interrupt_for(const FutureObject& reply) noexcept;

  /// Keeps the instance until it has stopped, and, unless None, what it is to be made anew with.
  void hold_instance(nb::handle arguments, nb::handle keywords);
  /// Where it has been started: returns when on_start() has.
  void wait_until_begun();
  /// It was not started after all.
  void give_up() noexcept;
  /// On a fiber of its own. `name`: the fiber's. Unless it is a daemon, wait_for_all() waits for its end.
  void start_fiber(const std::string& name, bool daemon);
  /// On its workers.
  void start_on(detail::Dispatcher& dispatcher, bool daemon);
  /// As the program ends: returns when all actors have stopped that are no daemons.
  static void wait_for_all();
  /// The last thing before the interpreter ends: from now on come_in() is false.
  static void retire();
  /// In a fork child: the actors that were its parent's are no more. Returns references to them.
  static nb::list forget_parents();
  /// On the calling thread, until it has stopped.
  void run_here();

  /// Does it stand for an actor of another process? All that is done to it, that one's StandIn does then.
  bool remote() const noexcept { return peer_ != nullptr; }
  /// weft.actor._remote.StandIn; none if it is an actor of this process.
  nb::object peer() const { return peer_ ? nb::borrow(peer_) : nb::none(); }
  /// From now on it stands for the actor of another process that `peer` reaches.
  void stand_for(nb::object peer);
  /// Can it be sent messages? If it is another process's, that is asked.
  bool lives() const;
  bool is_same(const PyActor& other) const noexcept;
  size_t hash() const noexcept;
  ActorStatistics counts();
  /// Has function() called when it has ended; at once if it has.
  void watch(nb::object function);
  void call_watchers() noexcept;

  /// The actor whose thread of control the caller is in, or null.
  static PyActor* running_here() noexcept;
  /// The names of all that run, by threading.get_ident() where they do.
  static nb::dict running();
  /// What it waits for without a time limit, or null; kept by who waits.
  const FutureObject* waits_for = nullptr;

 private:
  class Task;
  ~PyActor() = default;

  static const detail::ActorType kType;
  static void destroy(Completion& self) noexcept;

  bool send(detail::Message& message, std::optional<Seconds> timeout, bool urgent, Outcome* outcome);
  void tell_here(PyMessage* message, std::optional<Seconds> timeout, bool urgent, PyActor* pool);
  void tell_foreign(PyMessage* message, std::optional<Seconds> timeout, bool urgent);
  [[noreturn]] void raise_unsent(Outcome outcome);
  detail::Ref<PyActor> receiver(const PyMessage& message);
  void enter(void* worker) noexcept;
  void leave() noexcept;
  bool succeeded(PyObject* answer);
  bool renew();
  detail::Handled handle_failure_of(PyActor& child);
  void forward(PyMessage* message, std::optional<Seconds> timeout, bool urgent);
  PyObject* perform(PyMessage& message);
  PyObject* isolate_answer(PyObject* answer);
  bool begin();
  detail::Handled handle_message(PyMessage& message);
  PyObject* perform_value(const detail::ValueMessage& message);
  detail::Handled receive(detail::ValueMessage& message);
  detail::Handled raised(PyObject* error, void (*answer)(void* to, PyObject* error), void* to);
  void report_failure();
  void end();

  const Isolation isolation_;
  PyObject* class_;
  PyObject* weak_;                 // to the instance
  PyObject* held_ = nullptr;       // the instance; null: it could not be made anew
  PyObject* arguments_ = nullptr;  // to make it anew with
  PyObject* keywords_ = nullptr;
  FutureObject* answering_ = nullptr;  // what the message that is handled is answered by
  bool interrupted_ = false;
  PyObject* error_ = nullptr;       // what the last message failed with
  PyThreadState* state_ = nullptr;  // where it runs
  bool shares_ = false;             // on a dispatcher's worker
  const detail::Ref<ActorCore> foreign_;
  PyObject* peer_ = nullptr;
  PyObject* watchers_ = nullptr;  // a list
  bool ended_ = false;            // the watchers have been called
};

/// For dispatchers of Python's actors.
extern const detail::WorkerType kPythonWorker;

/// weft.actor.ActorRef.
class ActorRefObject {
 public:
  explicit ActorRefObject(PyActor& core) noexcept : core_(detail::Ref<PyActor>::share(core)) {}
  PyActor& core() const noexcept { return *core_; }
  static nb::object make(PyActor& core);

 private:
  detail::Ref<PyActor> core_;
};

/// The actor of an ActorRef; raises TypeError for anything else.
PyActor& core_of(nb::handle reference);

/// For a thread that the interpreter's end does not wait for, and that is to take the GIL to clean up after
/// an actor that was no daemon. False: too late, it must not. Else go_out() has to follow.
bool come_in() noexcept;
void go_out() noexcept;

// Runs Python code for the core, which is not to be unwound through: as the interpreter ends CPython up
// to 3.13 ends its threads so.
template <typename F>
auto sheltered(F&& function) noexcept {
  try {
    return function();
  } catch (abi::__forced_unwind&) {
    detail::stay();
  }
}

/// Runs Python code for a message or an actor whose end comes anywhere: without the GIL, or amid an
/// exception.
template <typename F>
void apart(F&& function) noexcept {
  if (!Py_IsInitialized()) return;
  const bool guest = !PyGILState_Check();
  if (guest && !come_in()) return;
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
  if (guest) go_out();
}

/// The exception for who asked `actor`, which will not handle the message.
PyObject* refusal(const std::string& actor, detail::Refusal why);
/// "list" of a list; with its module where it is not built in.
std::string type_name(PyObject* object);
/// What a module has by that name; a reference that is kept for good.
PyObject* imported(const char* module, const char* name);
/// Raises an exception of that type with a text.
[[noreturn]] void raise_text(PyObject* type, const std::string& text);
/// The attribute at the end of a path.
PyObject* attribute_at(PyObject* root, PyObject* path, Py_ssize_t length) noexcept;

}  // namespace weft::python
