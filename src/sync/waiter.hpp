// Waiter: a fiber or native thread that somebody else lets go on, once.
#pragma once

#include <atomic>
#include <cerrno>

#include "sync/wake.hpp"

namespace weft::detail {

/// Unlike a place in the parking lot it has no address to look up: who holds it wakes it. To be used in this
/// order: announce(), then hand it out, then wait(); and to be kept until nobody else has it.
class Waiter {
 public:
  /// The fiber, if the caller is one that may switch, else the OS thread. From now on wake() counts.
  void announce(uint8_t flags, const engine::WaitReason& reason) noexcept {
    fiber_ = switchable_fiber();
    if (fiber_) ticket_ = fiber_->begin_wait(flags, reason);
  }
  /// For one whose wait is announced by something else (Poller::wait).
  void announce(engine::Fiber& fiber, uint64_t ticket) noexcept {
    fiber_ = &fiber;
    ticket_ = ticket;
  }

  engine::Wake wait(Nanos deadline) noexcept {
    if (fiber_) return fiber_->carrier().park(deadline);
    while (woken_.load(std::memory_order_acquire) == 0)
      if (engine::sys::futex_wait(&woken_, 0, deadline) == -ETIMEDOUT)
        return woken_.load(std::memory_order_acquire) ? engine::Wake::kReady : engine::Wake::kTimeout;
    return engine::Wake::kReady;
  }

  /// For a native thread that waits for descriptors too: wake() makes `bell`, an eventfd, readable; -1: it is
  /// not noticed.
  void announce(int bell) noexcept { bell_ = bell; }

  /// At most once. Any thread. REQUIRES: the caller holds a lock that the waiter takes before it goes away.
  void wake(engine::Wake how = engine::Wake::kReady, engine::Turn turn = engine::Turn::kNext) noexcept {
    if (fiber_) {
      fiber_->unpark(ticket_, how, turn);
      return;
    }
    if (bell_ >= 0) {
      const uint64_t one = 1;
      engine::sys::call(SYS_write, bell_, &one, sizeof one);
      return;
    }
    woken_.store(1, std::memory_order_release);
    engine::sys::futex_wake(&woken_, 1);
  }

 private:
  engine::Fiber* fiber_ = nullptr;
  uint64_t ticket_ = 0;
  int bell_ = -1;
  std::atomic<uint32_t> woken_{0};
};

}  // namespace weft::detail
