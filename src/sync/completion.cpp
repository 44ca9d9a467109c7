#include "weft/detail/completion.hpp"

#include "sync/wake.hpp"

namespace weft::detail {

// Held for a few instructions, in which nothing is called: spinning is enough.
void Completion::lock() noexcept {
  while (locked_.exchange(true, std::memory_order_acquire)) __builtin_ia32_pause();
}
void Completion::unlock() noexcept {
  locked_.store(false, std::memory_order_release);
}

void Completion::complete() noexcept {
  lock();
  Callback* callbacks = callbacks_;
  callbacks_ = nullptr;
  // From here on add() refuses, and remove() waits for the calls below.
  uint32_t state = state_.fetch_or(callbacks ? kDone | kCalling : kDone, std::memory_order_acq_rel);
  unlock();
  if (callbacks) {
    // They were added newest first.
    Callback* oldest_first = nullptr;
    while (callbacks) {
      Callback* next = callbacks->next;
      callbacks->next = oldest_first;
      oldest_first = callbacks;
      callbacks = next;
    }
    while (oldest_first) {
      Callback* next = oldest_first->next;  // the call may free it
      oldest_first->call(*oldest_first, *this);
      oldest_first = next;
    }
    state |= state_.fetch_and(~kCalling, std::memory_order_acq_rel);
  }
  if (state & kWaited) wake(&state_);
}

Outcome Completion::wait_slowly(Nanos deadline, uint8_t flags, const char* call) noexcept {
  // Either complete() sees that there are waiters, or the condition sees that it is done.
  state_.fetch_or(kWaited, std::memory_order_acq_rel);
  return await(&state_, deadline, flags, call, [this]() noexcept { return done(); });
}

bool Completion::add(Callback& callback) noexcept {
  lock();
  const bool open = !done();
  if (open) {
    callback.next = callbacks_;
    callbacks_ = &callback;
  }
  unlock();
  return open;
}

bool Completion::remove(Callback& callback) noexcept {
  lock();
  for (Callback** place = &callbacks_; *place; place = &(*place)->next)
    if (*place == &callback) {
      *place = callback.next;
      unlock();
      return true;
    }
  unlock();
  state_.fetch_or(kWaited, std::memory_order_acq_rel);
  await(&state_, kNever, kUncancellable, "callback",
        [this]() noexcept { return !(state_.load(std::memory_order_acquire) & kCalling); });
  return false;
}

}  // namespace weft::detail
