// An actor's mailbox, and what it does with the messages in it.
//
// head_ is a stack to which any thread pushes by compare-and-swap; the actor takes all of it at once and
// turns it round, so messages of one sender keep their order (R. K. Treiber, "Systems Programming: Coping
// with Parallelism", IBM RJ 5118, 1986; taking all at once avoids its ABA problem). In place of a list it may
// hold a mark. An actor that finds nothing puts kIdle there, and only who replaces that wakes it: a message
// to an actor that is busy costs no wake-up. At its end it puts kClosed there, with the same instruction that
// takes what was left: so every message was either taken, and is refused, or its sender saw the mark.
#include "weft/detail/actor.hpp"

#include "actor/registry.hpp"
#include "fiber/intrusive_list.hpp"
#include "sync/wake.hpp"
#include "weft/fiber.hpp"
#include "weft/timeout.hpp"

namespace weft::detail {

namespace {

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
  if (urgent) {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    if (put_urgent(message)) return Outcome::kReady;
  } else {
    if (capacity_ == SIZE_MAX || message.type->stopped) {  // what is full must be able to stop
      waiting_.fetch_add(1, std::memory_order_relaxed);
    } else if (const Outcome outcome = reserve(deadline);
               outcome == Outcome::kTimeout && overflow_ == Overflow::kDrop) {
      refuse(message, Refusal::kDropped);
      return Outcome::kReady;
    } else if (outcome != Outcome::kReady) {
      return outcome;
    }
    if (put(message)) return Outcome::kReady;
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
  if (seen == mark(kIdle)) wake(&head_, 1);
  return true;
}

bool ActorCore::put_urgent(Message& message) noexcept {
  Message* first = urgent_.load(std::memory_order_relaxed);
  do {
    message.next = first;
  } while (
      !urgent_.compare_exchange_weak(first, &message, std::memory_order_seq_cst, std::memory_order_relaxed));
  Message* seen = mark(kIdle);
  if (head_.compare_exchange_strong(seen, nullptr, std::memory_order_seq_cst)) {
    wake(&head_, 1);
  } else if (seen == mark(kClosed)) {
    // The actor may not have seen it. Whoever gets it refuses it.
    refuse_all(urgent_.exchange(nullptr, std::memory_order_seq_cst));
  }
  return true;
}

void ActorCore::refuse(Message& message, Refusal why) noexcept {
  refused_.fetch_add(1, std::memory_order_relaxed);
  message.type->refuse(message, *this, why);
}

// Of an actor that has stopped.
void ActorCore::refuse_all(Message* first) noexcept {
  while (first) {
    Message& message = *first;
    first = message.next;
    leave_mailbox();
    if (message.type->stopped)
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
      return message;
    }
  }
  if (!batch_ && head_.load(std::memory_order_relaxed))
    batch_ = engine::reversed(head_.exchange(nullptr, std::memory_order_acquire));
  Message* message = batch_;
  if (message) batch_ = message->next;
  return message;
}

void ActorCore::handle(Message& message) noexcept {
  leave_mailbox();
  if (auto stopped = message.type->stopped) {
    if (mark_stopped()) type_->end(*this);
    stopped(message, *this);
    return;
  }
  const Nanos deadline = message.deadline;
  Handled how;
  if (deadline == kNever) [[likely]] {
    how = type_->handle(*this, message);
  } else if ((lap_ = detail::now()) >= deadline) {
    refuse(message, Refusal::kExpired);
    return;
  } else {
    const Nanos former = push_expiry(deadline);
    how = type_->handle(*this, message);
    pop_expiry(former);
  }
  const Nanos now = detail::now();
  busy_.store(busy_.load(std::memory_order_relaxed) + now - lap_, std::memory_order_relaxed);
  lap_ = now;
  handled_.store(handled_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (how == Handled::kDone) [[likely]]
    return;
  if (how == Handled::kFailed) {
    failed_.store(failed_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    mark_stopped();
    type_->failed(*this);
  } else if (mark_stopped()) {
    type_->end(*this);
  }
}

// Handles what there is, for a while: who always finds another message must let others run.
ActorCore::Turn ActorCore::turn() noexcept {
  type_->enter(*this);
  runner_.store(this_runner(), std::memory_order_relaxed);
  if (!begun()) {
    if (!type_->begin(*this)) mark_stopped();
    begun_.store(true, std::memory_order_release);
    wake(&begun_);
  }
  lap_ = detail::now();
  const Nanos end = lap_ + type_->turn;
  Turn turn = Turn::kMore;
  while (alive() && turn == Turn::kMore && lap_ < end) {
    if (Message* message = take()) {
      handle(*message);
      continue;
    }
    Message* none = nullptr;
    if (!head_.compare_exchange_strong(none, mark(kIdle), std::memory_order_seq_cst)) continue;
    turn = Turn::kIdle;
    // An urgent message that came before the mark was put there found nothing to wake; nor did
    // mark_stopped().
    if (urgent_.load(std::memory_order_seq_cst) || !alive()) {
      none = mark(kIdle);
      head_.compare_exchange_strong(none, nullptr, std::memory_order_seq_cst);
      turn = Turn::kMore;
    }
  }
  if (!alive()) {
    turn = Turn::kEnded;
    close();
    type_->discard(*this);
  }
  runner_.store(nullptr, std::memory_order_relaxed);
  type_->leave(*this);
  return turn;
}

void ActorCore::run() noexcept {
  if (taken_.exchange(true)) return;
  fiber_ = engine::Carrier::running_fiber();
  for (Turn last; (last = turn()) != Turn::kEnded;) {
    if (last == Turn::kMore)
      detail::yield();
    else
      await(&head_, kNever, kUncancellable, "an actor's next message",
            [this]() noexcept { return head_.load(std::memory_order_acquire) != mark(kIdle); });
  }
  complete();
}

void ActorCore::close() noexcept {
  Message* left = head_.exchange(mark(kClosed), std::memory_order_seq_cst);
  refuse_all(urgent_batch_);
  refuse_all(engine::reversed(urgent_.exchange(nullptr, std::memory_order_seq_cst)));
  refuse_all(batch_);
  if (left != mark(kIdle) && left != mark(kClosed)) refuse_all(engine::reversed(left));
  urgent_batch_ = batch_ = nullptr;
  wake(&waiting_);  // who waits for room
}

bool ActorCore::mark_stopped() noexcept {
  delist();
  if (stopped_.exchange(true, std::memory_order_acq_rel)) return false;
  wake(&stopped_);
  wake(&begun_);
  // One that sleeps has to see to its end.
  Message* seen = mark(kIdle);
  if (head_.compare_exchange_strong(seen, nullptr, std::memory_order_seq_cst)) wake(&head_, 1);
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
  complete();
  return true;
}

void ActorCore::lose() noexcept {
  if (runs_here() || done()) return;
  taken_.store(true);
  delist();
  stopped_.store(true);
  close();
  Completion::lose();
}

bool ActorCore::interrupt() noexcept {
  if (fiber_) static_cast<engine::Fiber*>(fiber_)->cancel_scope();
  return fiber_ != nullptr;
}

void ActorCore::end_interrupt() noexcept {
  static_cast<engine::Fiber*>(fiber_)->end_cancelled_scope();
}

bool ActorCore::runs_here() const noexcept {
  return runner_.load(std::memory_order_relaxed) == this_runner();
}

ActorStatistics ActorCore::statistics() const noexcept {
  return {waiting_.load(std::memory_order_relaxed), handled_.load(std::memory_order_relaxed),
          failed_.load(std::memory_order_relaxed), refused_.load(std::memory_order_relaxed),
          busy_.load(std::memory_order_relaxed)};
}

}  // namespace weft::detail
