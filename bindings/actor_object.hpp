// Python's actors: what weft::detail::ActorCore must know of them, and their messages.
#pragma once

#include <cxxabi.h>

#include <string>

#include "actor_future.hpp"
#include "python.hpp"
#include "weft/detail/actor.hpp"

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
  PyObject* hooks = nullptr;  // weft.actor._hooks
};
extern ActorNames actor_names;

struct PyMessage final : detail::Message {
  enum class Kind : uint8_t { kOrdinary, kStop, kCall, kGet, kSet };

  PyMessage(Kind k, nb::handle message, PyObject* positional = nullptr, PyObject* named = nullptr) noexcept;
  PyMessage(const PyMessage&) = delete;
  PyMessage& operator=(const PyMessage&) = delete;
  /// Of any object; knows Pykka's messages.
  static PyMessage* of(nb::handle message);
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

  /// `core` if it is of this kind, else null.
  static PyActor* of(detail::ActorCore& core) noexcept;

  /// The instance; none if it is no more.
  nb::object actor() const;
  nb::handle actor_class() const noexcept { return class_; }
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

  /// Keeps the instance until it has stopped.
  void hold_instance();
  /// Where it has been started: returns when on_start() has.
  void wait_until_begun();
  /// It was not started after all.
  void give_up() noexcept;
  /// On a fiber of its own. `name`: the fiber's. Unless it is a daemon, wait_for_fibers() waits for its end.
  void start_fiber(const std::string& name, bool daemon);
  static void wait_for_fibers();
  /// In a fork child: the actors that were its parent's are no more.
  static void forget_parents();
  /// On the calling thread, until it has stopped.
  void run_here();

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

  bool send(PyMessage* message, std::optional<Seconds> timeout, bool urgent, Outcome* outcome);
  PyObject* perform(PyMessage& message);
  PyObject* isolate_answer(PyObject* answer);
  bool begin();
  detail::Handled handle_message(PyMessage& message);
  void report_failure();
  void end();

  const Isolation isolation_;
  PyObject* class_;
  PyObject* weak_;                     // to the instance
  PyObject* held_ = nullptr;           // the instance
  FutureObject* answering_ = nullptr;  // what the message that is handled is answered by
  bool interrupted_ = false;
  PyObject* error_ = nullptr;  // what the last message failed with
  PyThreadState* state_ = nullptr;
};

/// weft.actor.ActorRef.
class ActorRefObject {
 public:
  explicit ActorRefObject(PyActor& core) noexcept : core_(detail::Ref<PyActor>::share(core)) {}
  PyActor& core() const noexcept { return *core_; }
  static nb::object make(PyActor& core);

 private:
  detail::Ref<PyActor> core_;
};

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

/// What a module has by that name; a reference that is kept for good.
PyObject* imported(const char* module, const char* name);
/// Raises an exception of that type with a text.
[[noreturn]] void raise_text(PyObject* type, const std::string& text);
/// The attribute at the end of a path.
PyObject* attribute_at(PyObject* root, PyObject* path, Py_ssize_t length) noexcept;

}  // namespace weft::python
