// A mutex that never enters libc.
//
// The engine may not use std::mutex: in a patched process pthread_mutex_lock is the engine's own function.
// Source of the three-state algorithm: U. Drepper, "Futexes Are Tricky", 2011, section 5 ("mutex2").
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/sys.hpp"

namespace weft {

/// A BasicLockable of four bytes for short critical sections that neither suspend nor call user code.
/// Blocks the OS thread, not the fiber. Not async-signal-safe: a handler could interrupt the holder.
class FutexLock {
 public:
  constexpr FutexLock() noexcept = default;
  FutexLock(const FutexLock&) = delete;
  FutexLock& operator=(const FutexLock&) = delete;

  void lock() noexcept {
    uint32_t seen = kFree;
    if (!state_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) [[unlikely]]
      lock_contended(seen);
  }

  bool try_lock() noexcept {
    uint32_t seen = kFree;
    return state_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire);
  }

  void unlock() noexcept {
    if (state_.exchange(kFree, std::memory_order_release) == kContended) [[unlikely]]
      sys::futex_wake(&state_, 1);
  }

  /// In a fork child: forgets a holder that did not survive the fork.
  void reset_after_fork() noexcept { state_.store(kFree, std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kFree = 0, kHeld = 1, kContended = 2;

  void lock_contended(uint32_t seen) noexcept {
    // The holder is at most a few hundred instructions from its unlock, unless it was descheduled.
    for (int spin = 0; spin < 100; ++spin) {
      __builtin_ia32_pause();
      seen = kFree;
      if (state_.compare_exchange_weak(seen, kHeld, std::memory_order_acquire)) return;
    }
    if (seen != kContended) seen = state_.exchange(kContended, std::memory_order_acquire);
    while (seen != kFree) {
      sys::futex_wait(&state_, kContended);
      seen = state_.exchange(kContended, std::memory_order_acquire);
    }
  }

  std::atomic<uint32_t> state_{kFree};
};

/// Holds any BasicLockable for a scope. (std::lock_guard would do; <mutex> pulls in half of libstdc++.)
template <typename Lock>
class [[nodiscard]] Guard {
 public:
  explicit Guard(Lock& lock) noexcept : lock_(lock) { lock_.lock(); }
  ~Guard() { lock_.unlock(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  Lock& lock_;
};

}  // namespace weft
