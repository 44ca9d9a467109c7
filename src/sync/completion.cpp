#include "weft/detail/completion.hpp"

#include "fiber/intrusive_list.hpp"
#include "sync/wake.hpp"

namespace weft::detail {

void Completion::complete() noexcept {
  lock_.lock();
  Callback* callbacks = callbacks_;
  callbacks_ = nullptr;
  // From here on add() refuses, and remove() waits for the calls below.
  uint32_t state = state_.fetch_or(callbacks ? kDone | kCalling : kDone, std::memory_order_acq_rel);
  lock_.unlock();
  if (callbacks) {
    Callback* oldest_first = engine::reversed(callbacks);
    while (oldest_first) {
      Callback* next = oldest_first->next;  // the call may free it
      oldest_first->call(*oldest_first, *this);
      oldest_first = next;
    }
    state |= state_.fetch_and(~kCalling, std::memory_order_acq_rel);
  }
  if (state & kWaited) wake(&state_);
}

void Completion::lose() noexcept {
  lock_.reset();
  callbacks_ = nullptr;
  state_.store(kDone, std::memory_order_relaxed);
}

Outcome Completion::wait_slowly(Nanos deadline, uint8_t flags, const char* call) noexcept {
  // Either complete() sees that there are waiters, or the condition sees that it is done.
  state_.fetch_or(kWaited, std::memory_order_acq_rel);
  return await(&state_, deadline, flags, call, [this]() noexcept { return done(); });
}

bool Completion::add(Callback& callback) noexcept {
  lock_.lock();
  const bool open = !done();
  if (open) {
    callback.next = callbacks_;
    callbacks_ = &callback;
  }
  lock_.unlock();
  return open;
}

bool Completion::remove(Callback& callback) noexcept {
  lock_.lock();
  for (Callback** place = &callbacks_; *place; place = &(*place)->next)
    if (*place == &callback) {
      *place = callback.next;
      lock_.unlock();
      return true;
    }
  lock_.unlock();
  state_.fetch_or(kWaited, std::memory_order_acq_rel);
  await(&state_, kNever, kUncancellable, "callback",
        [this]() noexcept { return !(state_.load(std::memory_order_acquire) & kCalling); });
  return false;
}

}  // namespace weft::detail
