// An actor's mailbox, and what it does with the messages in it.
//
// head_ is a stack to which any thread pushes by compare-and-swap; the actor takes all of it at once and
// turns it round, so messages of one sender keep their order (R. K. Treiber, "Systems Programming: Coping
// with Parallelism", IBM RJ 5118, 1986; taking all at once avoids its ABA problem). In place of a list it may
// hold a mark. An actor that finds nothing puts kIdle there, and only who replaces that wakes it: a message
// to an actor that is busy costs no wake-up. At its end it puts kClosed there, with the same instruction that
// takes what was left: so every message was either taken, and is refused, or its sender saw the mark.
#include "weft/detail/actor.hpp"

#include <algorithm>
#include <cstring>

#include "actor/registry.hpp"
#include "fiber/intrusive_list.hpp"
#include "sync/wake.hpp"
#include "weft/detail/value_message.hpp"
#include "weft/fiber.hpp"
#include "weft/timeout.hpp"

namespace weft::detail {

namespace {

// Where it is kept which actor the caller runs.
const void*& running_actor() noexcept {
  engine::Fiber* fiber = engine::Carrier::running_fiber();
  return fiber ? fiber->actor : engine::thread_state().actor;
}

// What is like nothing else that runs now.
const void* this_runner() noexcept {
  const engine::Fiber* fiber = engine::Carrier::running_fiber();
  return fiber ? static_cast<const void*>(fiber) : &engine::thread_state();
}

}  // namespace

ActorCore::ActorCore(const ActorType& type, Destroy destroy, const Mailbox& mailbox) noexcept
    : Completion(destroy), type_(&type), overflow_(mailbox.overflow), capacity_(mailbox.capacity) {
  Registry::make_uuid(uuid_);
}

ActorCore::ActorCore(const ActorType& type, Destroy destroy, const uint8_t (&uuid)[16]) noexcept
    : Completion(destroy), type_(&type), overflow_(Overflow::kRaise), capacity_(SIZE_MAX) {
  memcpy(uuid_, uuid, sizeof uuid_);
}

// --- Senders.

// Makes a place in the mailbox the caller's.
Outcome ActorCore::reserve(Nanos deadline) noexcept {
  size_t seen = waiting_.load(std::memory_order_relaxed);
  for (;;) {
    while (seen < capacity_)
      if (waiting_.compare_exchange_weak(seen, seen + 1, std::memory_order_seq_cst)) return Outcome::kReady;
    if (overflow_ != Overflow::kBlock || deadline == 0) return Outcome::kTimeout;
    if (runs_here()) return Outcome::kSelf;
    // Asked for each time, with the queue locked: whoever clears the flag after that finds this one waiting.
    const Outcome outcome =
        await(&waiting_, deadline, kCancellable, "room in an actor's mailbox", [this]() noexcept {
          crowded_.store(true, std::memory_order_seq_cst);
          return waiting_.load(std::memory_order_seq_cst) < capacity_ || !alive();
        });
    if (outcome != Outcome::kReady) return outcome;
    if (!alive()) return Outcome::kClosed;
    seen = waiting_.load(std::memory_order_relaxed);
  }
}

void ActorCore::leave_mailbox() noexcept {
  waiting_.fetch_sub(1, std::memory_order_seq_cst);
  if (crowded_.load(std::memory_order_seq_cst)) [[unlikely]] {
    crowded_.store(false, std::memory_order_seq_cst);
    wake(&waiting_);
  }
}

Outcome ActorCore::send(Message& message, Nanos deadline, bool urgent) noexcept {
  if (!alive()) return Outcome::kClosed;
  const bool stop = message.type->stopped;
  if (pool_ && !stop && message.type != &kEscalation) {
    while (const Ref<ActorCore> child = Ref<ActorCore>::adopt(route())) {
      const Outcome outcome = child->send(message, deadline, urgent);
      if (outcome != Outcome::kClosed) return outcome;
    }
    return Outcome::kClosed;
  }
  if (stop) stop_asked_.store(true, std::memory_order_seq_cst);
  if (urgent) {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    if (put_urgent(message)) {
      if (stop) end_pause();
      return Outcome::kReady;
    }
  } else {
    if (capacity_ == SIZE_MAX || stop) {  // what is full must be able to stop
      waiting_.fetch_add(1, std::memory_order_relaxed);
    } else if (const Outcome outcome = reserve(deadline);
               outcome == Outcome::kTimeout && overflow_ == Overflow::kDrop) {
      refuse(message, Refusal::kDropped);
      return Outcome::kReady;
    } else if (outcome != Outcome::kReady) {
      return outcome;
    }
    if (put(message)) {
      if (stop) end_pause();
      return Outcome::kReady;
    }
  }
  leave_mailbox();
  return Outcome::kClosed;
}

bool ActorCore::put(Message& message) noexcept {
  Message* seen = head_.load(std::memory_order_relaxed);
  do {
    if (seen == mark(kClosed)) return false;
    message.next = seen == mark(kIdle) ? nullptr : seen;
  } while (
      !head_.compare_exchange_weak(seen, &message, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (seen == mark(kIdle)) rouse();
  return true;
}

// Has one go on that was idle. Only for who made it so that it is not any more. Its fiber cannot go on, nor
// end, before the one caller that got its ticket has used it.
void ActorCore::rouse() noexcept {
  if (dispatcher_) {
    dispatcher_->submit(*this);
    return;
  }
  if (!fiber_) {
    wake(&head_, 1);
    return;
  }
  const uint64_t sleeper = sleeper_.exchange(kRoused, std::memory_order_acq_rel);
  if (sleeper == kAwake || sleeper == kRoused) return;
  static_cast<engine::Fiber*>(fiber_)->unpark(
      sleeper, engine::Wake::kReady,
      engine::Carrier::current() ? engine::Turn::kNext : engine::Turn::kInOrder);
}

bool ActorCore::put_urgent(Message& message) noexcept {
  Message* first = urgent_.load(std::memory_order_relaxed);
  do {
    message.next = first;
  } while (
      !urgent_.compare_exchange_weak(first, &message, std::memory_order_seq_cst, std::memory_order_relaxed));
  Message* seen = mark(kIdle);
  if (head_.compare_exchange_strong(seen, nullptr, std::memory_order_seq_cst)) {
    rouse();
  } else if (seen == mark(kClosed)) {
    // The actor may not have seen it. Whoever gets it refuses it.
    refuse_all(urgent_.exchange(nullptr, std::memory_order_seq_cst), false);
  }
  return true;
}

void ActorCore::refuse(Message& message, Refusal why) noexcept {
  refused_.fetch_add(1, std::memory_order_relaxed);
  message.type->refuse(message, *this, why);
}

// Of an actor that has stopped. `closing`: called by what closes it.
void ActorCore::refuse_all(Message* first, bool closing) noexcept {
  while (first) {
    Message& message = *first;
    first = message.next;
    leave_mailbox();
    if (message.type->stopped && closing)
      settle_stop(message);
    else if (message.type->stopped)
      message.type->stopped(message, *this);
    else
      refuse(message, Refusal::kStopped);
  }
}

// --- The runner.

Message* ActorCore::take() noexcept {
  if (urgent_.load(std::memory_order_relaxed) || urgent_batch_) [[unlikely]] {
    if (!urgent_batch_)
      urgent_batch_ = engine::reversed(urgent_.exchange(nullptr, std::memory_order_seq_cst));
    if (Message* message = urgent_batch_) {
      urgent_batch_ = message->next;
      took_urgent_ = true;
      return message;
    }
  }
  if (!batch_ && head_.load(std::memory_order_relaxed))
    batch_ = engine::reversed(head_.exchange(nullptr, std::memory_order_acquire));
  Message* message = batch_;
  if (message) batch_ = message->next;
  took_urgent_ = false;
  return message;
}

inline Handled ActorCore::deliver(Message& message) noexcept {
  if (message.type->value) return type_->receive(*this, static_cast<ValueMessage&>(message));
  return type_->handle(*this, message);
}

void ActorCore::handle(Message& message) noexcept {
  leave_mailbox();
  if (message.type->stopped) {
    urgent_end_ = took_urgent_;
    if (mark_stopped()) type_->end(*this);
    settle_stop(message);
    return;
  }
  const Nanos deadline = message.deadline;
  Handled how;
  if (message.type == &kEscalation) [[unlikely]] {
    ActorCore& child = child_of(message);
    how = type_->child_failed(*this, child);
    forget(child);
  } else if (deadline == kNever) [[likely]] {
    how = deliver(message);
  } else if (end_lap(); lap_ >= deadline) {
    refuse(message, Refusal::kExpired);
    return;
  } else {
    const Nanos former = push_expiry(deadline);
    how = deliver(message);
    pop_expiry(former);
  }
  if (++lap_messages_ >= lap_length_) end_lap();
  handled_.store(handled_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (how == Handled::kDone) [[likely]]
    return;
  if (how == Handled::kFailed)
    fail();
  else if (mark_stopped())
    type_->end(*this);
}

// Reading the clock costs as much as handling a small message. So it is read once for several while they are
// small; for few, since one that is not small may follow, and others wait for the turn to end.
void ActorCore::end_lap() noexcept {
  constexpr uint32_t kLongest = 8;
  constexpr Nanos kSmall = 1000;
  const Nanos now = detail::now(), passed = now - lap_;
  busy_.store(busy_.load(std::memory_order_relaxed) + passed, std::memory_order_relaxed);
  lap_length_ = passed < kSmall * lap_messages_ ? std::min(2 * lap_length_, kLongest) : 1;
  lap_messages_ = 0;
  lap_ = now;
}

// Handles what there is, for a while: who always finds another message must let others run.
ActorCore::Turn ActorCore::turn(void* worker) noexcept {
  type_->enter(*this, worker);
  runner_.store(this_runner(), std::memory_order_relaxed);
  running_actor() = this;
  if (dispatcher_) fiber_ = engine::Carrier::running_fiber();
  if (!begun() || broken_) [[unlikely]]
    live();
  lap_ = detail::now();
  lap_length_ = 1;
  const Nanos end = lap_ + type_->turn;
  Turn turn = Turn::kMore;
  while (alive() && !broken_ && turn == Turn::kMore && lap_ < end) {
    if (Message* message = take())
      handle(*message);
    else
      turn = Turn::kIdle;
  }
  if (lap_messages_ > 0) end_lap();
  if (!alive()) {
    turn = Turn::kEnded;
    close();
    type_->discard(*this);
  } else if (broken_) {
    turn = Turn::kPaused;
  }
  runner_.store(nullptr, std::memory_order_relaxed);
  running_actor() = nullptr;
  type_->leave(*this);
  return turn;
}

// False: there is something to do. Else who replaces the mark has it go on.
bool ActorCore::go_idle() noexcept {
  Message* none = nullptr;
  if (!head_.compare_exchange_strong(none, mark(kIdle), std::memory_order_seq_cst)) return false;
  // An urgent message that came before the mark was put there found nothing to wake; nor did mark_stopped().
  if (!urgent_.load(std::memory_order_seq_cst) && alive()) return true;
  none = mark(kIdle);
  return !head_.compare_exchange_strong(none, nullptr, std::memory_order_seq_cst);
}

// Until rouse(). Not in the parking lot: with many actors, its bucket and the waiter of a neighbour there
// were found to be most of what a message to an idle one costs, since none is in the cache.
void ActorCore::sleep() noexcept {
  constexpr const char* kReason = "an actor's next message";
  const auto roused = [this]() noexcept { return head_.load(std::memory_order_acquire) != mark(kIdle); };
  if (!fiber_) {
    await(&head_, kNever, kUncancellable, kReason, roused);
    return;
  }
  auto& fiber = *static_cast<engine::Fiber*>(fiber_);
  // It may be roused late, by who replaced an earlier mark: hence the loop.
  while (!roused()) {
    const uint64_t ticket =
        fiber.begin_wait(engine::kUninterruptible, {engine::WaitKind::kLock, kReason, &head_});
    uint64_t awake = kAwake;
    if (!sleeper_.compare_exchange_strong(awake, ticket, std::memory_order_acq_rel))
      fiber.unpark(ticket, engine::Wake::kReady);  // nobody else knows the ticket
    fiber.carrier().park(kNever);
    // Acquires what came before every rouse() until now: a mark that it was for is seen to be replaced.
    sleeper_.exchange(kAwake, std::memory_order_acq_rel);
  }
}

void ActorCore::run() noexcept {
  if (taken_.exchange(true)) return;
  fiber_ = engine::Carrier::running_fiber();
  for (;;) {
    switch (turn(nullptr)) {
      case Turn::kMore:
        detail::yield();
        break;
      case Turn::kIdle:
        if (go_idle()) sleep();
        break;
      case Turn::kPaused:
        if (pause())
          await(&paused_, pause_end(), kUncancellable, "an actor's restart",
                [this]() noexcept { return !paused_.load(std::memory_order_acquire); });
        paused_.store(false, std::memory_order_relaxed);
        break;
      case Turn::kEnded:
        finish();
        return;
    }
  }
}

// A turn on a dispatcher's worker.
void ActorCore::dispatch(void* worker) noexcept {
  // Who has it go on may have done with it before this returns.
  const Ref<ActorCore> kept = Ref<ActorCore>::share(*this);
  switch (turn(worker)) {
    case Turn::kMore:
      rouse();
      break;
    case Turn::kIdle:
      if (!go_idle()) rouse();
      break;
    case Turn::kPaused: {
      const Nanos end = pause_end();  // before somebody else may run it
      if (!pause())
        rouse();
      else
        resume_later(end);
      break;
    }
    case Turn::kEnded:
      finish();
      break;
  }
}

void ActorCore::close() noexcept {
  Message* left = head_.exchange(mark(kClosed), std::memory_order_seq_cst);
  refuse_all(urgent_batch_, true);
  refuse_all(engine::reversed(urgent_.exchange(nullptr, std::memory_order_seq_cst)), true);
  refuse_all(batch_, true);
  if (left != mark(kIdle) && left != mark(kClosed)) refuse_all(engine::reversed(left), true);
  urgent_batch_ = batch_ = nullptr;
  wake(&waiting_);  // who waits for room
}

bool ActorCore::mark_stopped() noexcept {
  delist();
  if (stopped_.exchange(true, std::memory_order_seq_cst)) return false;
  delist();  // again: it may have been put in meanwhile, by who had seen it alive
  wake(&stopped_);
  wake(&begun_);
  // One that sleeps has to see to its end.
  Message* seen = mark(kIdle);
  if (head_.compare_exchange_strong(seen, nullptr, std::memory_order_seq_cst)) rouse();
  end_pause();
  return true;
}

Outcome ActorCore::wait_stopped(Nanos deadline) noexcept {
  return await(&stopped_, deadline, kCancellable, "the end of an actor",
               [this]() noexcept { return !alive(); });
}

Outcome ActorCore::wait_begun(Nanos deadline) noexcept {
  return await(&begun_, deadline, kCancellable, "the begin of an actor",
               [this]() noexcept { return begun() || !alive(); });
}

bool ActorCore::abandon() noexcept {
  if (taken_.exchange(true)) return false;
  mark_stopped();
  close();
  finish();
  return true;
}

void ActorCore::lose() noexcept {
  if (runs_here() || done()) return;
  taken_.store(true);
  delist();
  stopped_.store(true);
  close();
  end_lost();
}

bool ActorCore::interrupt() noexcept {
  if (fiber_) static_cast<engine::Fiber*>(fiber_)->cancel_scope();
  return fiber_ != nullptr;
}

void ActorCore::end_interrupt() noexcept {
  static_cast<engine::Fiber*>(fiber_)->end_cancelled_scope();
}

bool is_running_actor(const void* actor) noexcept {
  return running_actor() == actor;
}

bool ActorCore::runs_here() const noexcept {
  return runner_.load(std::memory_order_relaxed) == this_runner();
}

ActorStatistics ActorCore::own_statistics() const noexcept {
  return {waiting_.load(std::memory_order_relaxed), handled_.load(std::memory_order_relaxed),
          failed_.load(std::memory_order_relaxed),  refused_.load(std::memory_order_relaxed),
          busy_.load(std::memory_order_relaxed),    restarted_.load(std::memory_order_relaxed)};
}

}  // namespace weft::detail
