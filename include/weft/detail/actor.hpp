// The untyped core of actors: mailbox, life-cycle, registry. Both languages' actors are made of it.
#pragma once

#include "weft/detail/completion.hpp"
#include "weft/detail/dispatcher.hpp"
#include "weft/mailbox.hpp"
#include "weft/supervision.hpp"

namespace weft::detail {

class ActorCore;

/// Why an actor will not handle a message.
enum class Refusal : uint8_t {
  kStopped,  ///< it stopped before it came to it
  kDropped,  ///< its mailbox is full, and drops then
  kExpired,  ///< its deadline passed before
};

struct Message;
struct ValueMessage;

/// What the core must know of a message. Destroyed by the module that made it. None may wait.
struct MessageType {
  /// It will not be handled: settles what waits for an answer, and destroys it. Any thread.
  void (*refuse)(Message& self, ActorCore& actor, Refusal why) noexcept;
  /// Asks the actor to stop; it has, or has already: answers so, and destroys it. Null: it is no such
  /// message.
  void (*stopped)(Message& self, ActorCore& actor) noexcept;
  /// It is a ValueMessage: actors of all languages understand it.
  bool value = false;
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
/// enter() and leave(). Where one fails, the actor keeps why.
struct ActorType {
  /// How long an actor goes on while there are messages, before it lets others run.
  Nanos turn;
  /// May messages be refused in a fork child at once? Else who made the type calls lose() there.
  bool lost_at_fork;
  /// `worker`: of the dispatcher that runs it; null where it has a thread or fiber of its own.
  void (*enter)(ActorCore& self, void* worker) noexcept;
  void (*leave)(ActorCore& self) noexcept;
  /// Before the first message. False: it failed.
  bool (*begin)(ActorCore& self) noexcept;
  /// It failed, and is to go on: makes its object anew. begin() follows. False: it failed.
  bool (*renew)(ActorCore& self) noexcept;
  Handled (*handle)(ActorCore& self, Message& message) noexcept;
  /// The same for a message of any language.
  Handled (*receive)(ActorCore& self, ValueMessage& message) noexcept;
  /// A message failed. Unless it is to go on, the actor counts as stopped.
  void (*failed)(ActorCore& self) noexcept;
  /// An actor that this one supervises failed, and has stopped.
  Handled (*child_failed)(ActorCore& self, ActorCore& child) noexcept;
  /// Nobody will ask any more why it failed. Not only in the actor: any thread.
  void (*forget_failure)(ActorCore& self) noexcept;
  /// It was asked to stop, and counts as stopped; what is in its mailbox has not been refused yet.
  void (*end)(ActorCore& self) noexcept;
  /// It will do nothing more: lets go of what it holds.
  void (*discard)(ActorCore& self) noexcept;
  /// What it can be found by; may be "". Any thread; lives as long as the actor.
  const char* (*name)(const ActorCore& self) noexcept;
  /// Calls visit(argument, name) for each method that a ValueMessage can call. Null: they are not known.
  void (*methods)(const ActorCore& self, void (*visit)(void* argument, const char* name), void* argument);
};

/// Done when it has stopped, and every message that it ever got was handled or refused.
///
/// An actor handles its messages one at a time, in the order in which they were sent, on whatever calls
/// run(). Messages that are sent before wait. alive() ends before the hooks of its end are called; from then
/// on nothing can be sent to it. Reference-counted.
class ActorCore : public Completion {
 public:
  WEFT_API ActorCore(const ActorType& type, Destroy destroy, const Mailbox& mailbox) noexcept;
  /// Stands for another actor, which has this name; nothing can be sent to it, nor run it.
  WEFT_API ActorCore(const ActorType& type, Destroy destroy, const uint8_t (&uuid)[16]) noexcept;

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

  /// Runs the actor until it has stopped. To be called once, on what it is to run on, by who has a reference;
  /// or see Dispatcher::start().
  WEFT_API void run() noexcept;

  /// Before it runs: how often it is made anew when it fails. False: ENOMEM.
  WEFT_API bool set_restart(const Restart& restart) noexcept;
  /// Before it runs: `parent` supervises it, that is, learns of a failure after which it is not made anew,
  /// and has it stop before it is itself done, or made anew. ENOMEM; ESRCH: the parent has stopped; EPERM:
  /// the caller is not the parent, which runs.
  WEFT_API int set_parent(ActorCore& parent) noexcept;
  /// The actor that supervises it, with a reference, until it is done; or null.
  WEFT_API ActorCore* parent() const noexcept;

  /// Before it has children: whatever is sent to it, but to stop, goes to one of those. It stops when the
  /// last of them has. False: ENOMEM.
  WEFT_API bool make_pool(Routing routing) noexcept;
  bool pool() const noexcept { return pool_; }
  /// Of a pool: which child a message is for now, with a reference; null if there is none.
  WEFT_API ActorCore* route() noexcept;
  /// The same for a key: while that one lives, always the same.
  WEFT_API ActorCore* route(uint64_t key) noexcept;
  /// Calls visit(argument, child) for each that lives, oldest first, with the pool locked.
  WEFT_API void for_each_child(void (*visit)(void* argument, ActorCore& child), void* argument) noexcept;

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
  /// Of a pool: the sums of all that it had.
  WEFT_API ActorStatistics statistics() noexcept;
  /// Is it to be sent messages, where another could be? It lives, and nobody asked it to stop.
  bool available() const noexcept { return alive() && !stop_asked_.load(std::memory_order_relaxed); }
  /// Would a message wait for more than those before it? Its mailbox is full, or it is to be made anew.
  bool held_up() const noexcept {
    return paused_.load(std::memory_order_relaxed) || waiting_.load(std::memory_order_relaxed) >= capacity_;
  }
  /// How many messages it has to do with: those that wait, and one that it is at.
  size_t load() const noexcept {
    return waiting_.load(std::memory_order_relaxed) +
           (head_.load(std::memory_order_relaxed) != reinterpret_cast<Message*>(kIdle));
  }

  /// Puts it into the registry, at the end, or takes it out. False: it was in, was not in. The registry has a
  /// reference of its own.
  WEFT_API bool enlist() noexcept;
  WEFT_API bool delist() noexcept;
  /// Calls visit(argument, actor) for each in the registry, oldest first, with the registry locked; false
  /// ends it.
  WEFT_API static void for_each(bool (*visit)(void* argument, ActorCore& actor), void* argument) noexcept;
  WEFT_API static size_t count() noexcept;
  /// The oldest in the registry that has that UUID, or that ActorType::name(), with a reference; or null.
  WEFT_API static ActorCore* find(const uint8_t (&uuid)[16]) noexcept;
  WEFT_API static ActorCore* find(const char* name, size_t size) noexcept;

  /// 16 bytes that no other actor has, anywhere: a random UUID (RFC 9562, version 4).
  const uint8_t (&uuid() const noexcept)[16] { return uuid_; }

 protected:
  WEFT_API ~ActorCore();

 private:
  friend struct Registry;

  friend class Dispatcher;
  struct Kin;

  // Stand in head_ for a list. kIdle: nothing is there, and whoever sends must have the actor run.
  static constexpr uintptr_t kIdle = 1, kClosed = 2;

  // In sleeper_ in place of a ticket.
  static constexpr uint64_t kAwake = 0, kRoused = 1;

  enum class Turn : uint8_t { kMore, kIdle, kPaused, kEnded };

  static Message* mark(uintptr_t what) noexcept { return reinterpret_cast<Message*>(what); }
  Outcome reserve(Nanos deadline) noexcept;
  void leave_mailbox() noexcept;
  bool put(Message& message) noexcept;
  bool put_urgent(Message& message) noexcept;
  void rouse() noexcept;
  void sleep() noexcept;
  void end_lap() noexcept;
  Message* take() noexcept;
  Turn turn(void* worker) noexcept;
  bool go_idle() noexcept;
  void dispatch(void* worker) noexcept;
  void handle(Message& message) noexcept;
  Handled deliver(Message& message) noexcept;
  void settle_stop(Message& message) noexcept;
  void close() noexcept;
  void finish() noexcept;
  void end() noexcept;
  void refuse(Message& message, Refusal why) noexcept;
  void refuse_all(Message* first, bool closing) noexcept;

  // Supervision.
  bool kin() noexcept;
  void live() noexcept;
  bool may_restart(bool began) noexcept;
  void fail() noexcept;
  bool pause() noexcept;
  Nanos pause_end() const noexcept;
  void resume_later(Nanos at) noexcept;
  void drop_timer() noexcept;
  void end_pause() noexcept;
  void report_to_parent() noexcept;
  bool halt_children() noexcept;
  Ref<ActorCore> leave_parent(bool lost) noexcept;
  void enter_list(ActorCore*& first) noexcept;
  void leave_list() noexcept;
  void answer_stops() noexcept;
  void end_lost() noexcept;
  static ActorCore& child_of(Message& message) noexcept;
  static void forget(ActorCore& child) noexcept;
  ActorStatistics own_statistics() const noexcept;
  static const MessageType kHalt, kEscalation;

  const ActorType* type_;
  std::atomic<Message*> head_{nullptr};    // newest first; or a mark
  std::atomic<Message*> urgent_{nullptr};  // newest first
  std::atomic<size_t> waiting_{0};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> crowded_{false};  // somebody may wait for room
  const Overflow overflow_;
  std::atomic<bool> begun_{false};
  std::atomic<bool> taken_{false};   // by what runs it, or abandon()
  std::atomic<bool> paused_{false};  // who makes it false has it go on
  std::atomic<bool> stop_asked_{false};
  bool broken_ = false;       // the runner's, as the next two: to be made anew
  bool urgent_end_ = false;   // its children are to stop urgently, too
  bool took_urgent_ = false;  // the last message
  bool pool_ = false;
  const size_t capacity_;
  std::atomic<const void*> runner_{nullptr};  // the thread or fiber that runs it
  Message* batch_ = nullptr;                  // oldest first; the runner's, as the next two
  Message* urgent_batch_ = nullptr;
  void* fiber_ = nullptr;                  // engine::Fiber: what runs it; null: an OS thread
  Dispatcher* dispatcher_ = nullptr;       // with a reference, until it is done; null: run()
  ActorCore* queued_ = nullptr;            // the dispatcher's: the next in its queue
  Kin* kin_ = nullptr;                     // null: it neither has kin nor is made anew
  std::atomic<uint64_t> sleeper_{kAwake};  // the ticket of fiber_'s wait for a message
  Nanos lap_ = 0;                          // when the clock was last read, within a turn
  uint32_t lap_messages_ = 0;              // handled since
  uint32_t lap_length_ = 1;                // after so many it is read again
  std::atomic<uint64_t> handled_{0}, failed_{0}, refused_{0}, restarted_{0};
  std::atomic<Nanos> busy_{0};
  // The registry's lock guards these.
  ActorCore* later_ = nullptr;
  ActorCore* earlier_ = nullptr;
  bool listed_ = false;
  uint8_t uuid_[16];
};

}  // namespace weft::detail
