// weft.actor.Future: what an actor will answer.
#pragma once

#include "python.hpp"
#include "weft/detail/actor.hpp"

namespace weft::python {

class PyActor;

/// A nanobind instance; all of it is guarded by the GIL.
class FutureObject {
 public:
  /// One that is not settable is Pykka's abstract base class: only a hook can give it a value.
  explicit FutureObject(bool settable) noexcept;
  ~FutureObject() { clear(); }
  FutureObject(const FutureObject&) = delete;
  FutureObject& operator=(const FutureObject&) = delete;

  /// A new weft.actor.ThreadingFuture. `source`: who is going to set it; null: anybody.
  static nb::object make(PyActor* source = nullptr);
  static nb::object make_like(nb::handle future);
  /// Another actor is going to set it than was thought.
  void redirect(PyActor& source) noexcept;

  nb::object get(std::optional<Seconds> timeout);
  void set(nb::handle value);
  void set_exception(nb::handle exc_info);
  void set_get_hook(nb::handle function);
  /// get() gives what `kind` makes of what the futures in `sources` give.
  enum class Derived : uint8_t { kNot, kFilter, kMap, kReduce, kJoin, kStopped };
  void derive(Derived kind, nb::handle sources, nb::handle function, nb::handle arguments);

  /// The actor's answer. Nothing if it has one already.
  void settle(nb::object value);
  void settle_error(PyObject* error);
  /// In a fork child: who would have set it is not there.
  void lose();

  /// Gives the answer up: true if that counts, false if it was set before. The actor does not begin with the
  /// message; if it is at it, the cancellable waits of the handler end.
  bool cancel();
  bool cancelled() const noexcept { return cancelled_; }
  /// Has get() wait no longer than that.
  void set_deadline(Nanos deadline) noexcept { deadline_ = deadline; }

  bool done() const;
  /// What awaiting it is to wait for first: itself, or what it is derived from. A tuple.
  nb::object awaited(nb::handle self) const;
  /// Has function() called when it is done, by who sets it; at once if it is.
  void add_done_callback(nb::object function);

  int traverse(visitproc visit, void* argument);
  void clear();

 private:
  enum class Kind : uint8_t { kPending, kValue, kError, kHook };

  void finish(Kind kind);
  void require_settable() const;
  void require_unset() const;
  void forbid_deadlock() const;
  nb::object run_hook(std::optional<Seconds> timeout);
  nb::object call_hook(std::optional<Seconds> timeout);
  nb::object derived_value(std::optional<Seconds> timeout);
  [[noreturn]] static void raise_timeout(const Seconds& seconds);

  class Done final : public detail::Completion {
   public:
    Done() noexcept : Completion([](Completion&) noexcept {}) {}
  };

  Done done_;  // borrowed by waits, which keep the instance
  Kind kind_ = Kind::kPending;
  Derived derived_ = Derived::kNot;
  bool settable_;
  std::atomic<PyThreadState*> running_hook_{nullptr};  // in which it is called
  bool cancelled_ = false;
  Nanos deadline_ = detail::kNever;
  PyObject* value_ = nullptr;      // or the exception
  PyObject* traceback_ = nullptr;  // the exception's when it was set
  PyObject* function_ = nullptr;
  PyObject* sources_ = nullptr;    // a tuple
  PyObject* arguments_ = nullptr;  // a tuple
  PyObject* callbacks_ = nullptr;  // a list
  PyActor* source_ = nullptr;      // with a reference
};

}  // namespace weft::python
