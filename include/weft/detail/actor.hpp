// The untyped core of actors: mailbox, life-cycle, registry. Both languages' actors are made of it.
#pragma once

#include "weft/detail/completion.hpp"
#include "weft/mailbox.hpp"

namespace weft::detail {

class ActorCore;

/// Why an actor will not handle a message.
enum class Refusal : uint8_t {
  kStopped,  ///< it stopped before it came to it
  kDropped,  ///< its mailbox is full, and drops then
  kExpired,  ///< its deadline passed before
};

struct Message;

/// What the core must know of a message. Destroyed by the module that made it. None may wait.
struct MessageType {
  /// It will not be handled: settles what waits for an answer, and destroys it. Any thread.
  void (*refuse)(Message& self, ActorCore& actor, Refusal why) noexcept;
  /// Asks the actor to stop; it has, or has already: answers so, and destroys it. Null: it is no such
  /// message.
  void (*stopped)(Message& self, ActorCore& actor) noexcept;
};

struct Message {
  const MessageType* type = nullptr;
  Message* next = nullptr;  // the mailbox's
  /// It is not begun later than that, and the cancellable waits of its handler, on a fiber, end then.
  Nanos deadline = kNever;
};

/// How the handling of a message ended. Whichever, the message is destroyed.
enum class Handled : uint8_t {
  kDone,
  kFailed,  ///< by an exception that nobody gets as an answer
  kStop,    ///< the actor is to stop at once
};

/// What the core must know of a kind of actor. All are called by what runs the actor, one at a time, between
/// enter() and leave().
struct ActorType {
  /// How long an actor goes on while there are messages, before it lets others run.
  Nanos turn;
  /// May messages be refused in a fork child at once? Else who made the type calls lose() there.
  bool lost_at_fork;
  void (*enter)(ActorCore& self) noexcept;
  void (*leave)(ActorCore& self) noexcept;
  /// Before the first message. False: it failed, and the actor is to stop.
  bool (*begin)(ActorCore& self) noexcept;
  Handled (*handle)(ActorCore& self, Message& message) noexcept;
  /// A message failed, and the actor counts as stopped.
  void (*failed)(ActorCore& self) noexcept;
  /// It was asked to stop, and counts as stopped; what is in its mailbox has not been refused yet.
  void (*end)(ActorCore& self) noexcept;
  /// It will do nothing more: lets go of what it holds.
  void (*discard)(ActorCore& self) noexcept;
};

/// Done when it has stopped, and every message that it ever got was handled or refused.
///
/// An actor handles its messages one at a time, in the order in which they were sent, on whatever calls
/// run(). Messages that are sent before wait. alive() ends before the hooks of its end are called; from then
/// on nothing can be sent to it. Reference-counted.
class ActorCore : public Completion {
 public:
  WEFT_API ActorCore(const ActorType& type, Destroy destroy, const Mailbox& mailbox) noexcept;

  const ActorType& type() const noexcept { return *type_; }
  Overflow overflow() const noexcept { return overflow_; }
  /// May its mailbox be full?
  bool limited() const noexcept { return capacity_ != SIZE_MAX; }
  bool alive() const noexcept { return !stopped_.load(std::memory_order_acquire); }

  /// Hands in a message, or leaves it with the caller: kClosed: it is not alive; kTimeout: the mailbox is
  /// full (Overflow::kRaise, or the deadline passed); kCancelled, kExpired; kSelf: it is full, and the caller
  /// is the actor itself. Any thread; waits with Overflow::kBlock only. `urgent`: before all that are not;
  /// has always room.
  WEFT_API Outcome send(Message& message, Nanos deadline, bool urgent) noexcept;

  /// Runs the actor until it has stopped. To be called once, on what it is to run on, by who has a reference.
  WEFT_API void run() noexcept;

  /// It counts as stopped from now on, and does nothing more after the message that it is at. Any thread.
  /// False if it did.
  WEFT_API bool mark_stopped() noexcept;
  /// Waits until mark_stopped(). kReady, kTimeout, kCancelled, kExpired, kInterrupted.
  WEFT_API Outcome wait_stopped(Nanos deadline) noexcept;

  /// Waits until begin() has returned, or mark_stopped(). As wait_stopped().
  WEFT_API Outcome wait_begun(Nanos deadline) noexcept;
  bool begun() const noexcept { return begun_.load(std::memory_order_acquire); }

  /// It will never run(): it is done. False, and nothing, if run() was called.
  WEFT_API bool abandon() noexcept;
  /// In a fork child, unless the caller runs it: what ran it is not there. It is done, no hook is called, and
  /// what it was sent is refused.
  WEFT_API void lose() noexcept;

  /// Ends the cancellable waits of the handler that runs now, until it ends; false: it does not run on a
  /// fiber. REQUIRES: the handler cannot end meanwhile. Once a handler, which after it has to call
  /// end_interrupt().
  WEFT_API bool interrupt() noexcept;
  WEFT_API void end_interrupt() noexcept;

  /// Does the caller run it?
  WEFT_API bool runs_here() const noexcept;
  WEFT_API ActorStatistics statistics() const noexcept;

  /// Puts it into the registry, at the end, or takes it out. False: it was in, was not in. The registry has a
  /// reference of its own.
  WEFT_API bool enlist() noexcept;
  WEFT_API bool delist() noexcept;
  /// Calls visit(argument, actor) for each in the registry, oldest first, with the registry locked; false
  /// ends it.
  WEFT_API static void for_each(bool (*visit)(void* argument, ActorCore& actor), void* argument) noexcept;
  WEFT_API static size_t count() noexcept;

  /// 16 bytes that no other actor has, anywhere: a random UUID (RFC 9562, version 4).
  const uint8_t (&uuid() const noexcept)[16] { return uuid_; }

 protected:
  ~ActorCore() = default;

 private:
  friend struct Registry;

  // Stand in head_ for a list. kIdle: nothing is there, and whoever sends must have the actor run.
  static constexpr uintptr_t kIdle = 1, kClosed = 2;

  enum class Turn : uint8_t { kMore, kIdle, kEnded };

  static Message* mark(uintptr_t what) noexcept { return reinterpret_cast<Message*>(what); }
  Outcome reserve(Nanos deadline) noexcept;
  void leave_mailbox() noexcept;
  bool put(Message& message) noexcept;
  bool put_urgent(Message& message) noexcept;
  Message* take() noexcept;
  Turn turn() noexcept;
  void handle(Message& message) noexcept;
  void close() noexcept;
  void refuse(Message& message, Refusal why) noexcept;
  void refuse_all(Message* first) noexcept;

  const ActorType* type_;
  std::atomic<Message*> head_{nullptr};    // newest first; or a mark
  std::atomic<Message*> urgent_{nullptr};  // newest first
  std::atomic<size_t> waiting_{0};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> crowded_{false};  // somebody may wait for room
  const Overflow overflow_;
  std::atomic<bool> begun_{false};
  std::atomic<bool> taken_{false};  // by run(), or abandon()
  const size_t capacity_;
  std::atomic<const void*> runner_{nullptr};  // the thread or fiber that runs it
  Message* batch_ = nullptr;                  // oldest first; the runner's, as the next two
  Message* urgent_batch_ = nullptr;
  void* fiber_ = nullptr;  // engine::Fiber: what runs it; null: an OS thread
  Nanos lap_ = 0;          // when the last message ended, within a turn
  std::atomic<uint64_t> handled_{0}, failed_{0}, refused_{0};
  std::atomic<Nanos> busy_{0};
  // The registry's lock guards these.
  ActorCore* later_ = nullptr;
  ActorCore* earlier_ = nullptr;
  bool listed_ = false;
  uint8_t uuid_[16];
};

}  // namespace weft::detail
