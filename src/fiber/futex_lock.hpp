// A mutex that never enters libc.
//
// The engine may not use std::mutex: in a patched process pthread_mutex_lock is the engine's own function.
// Source of the three-state algorithm: U. Drepper, "Futexes Are Tricky", 2011, section 5 ("mutex2").
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/sys.hpp"

namespace weft::engine {

/// A BasicLockable of four bytes for short critical sections that neither suspend nor call user code.
/// Blocks the OS thread, not the fiber. Not async-signal-safe: a handler could interrupt the holder. In a
/// fork child it is free, whoever held it in the parent, once forked() was called.
class FutexLock {
 public:
  constexpr FutexLock() noexcept = default;
  FutexLock(const FutexLock&) = delete;
  FutexLock& operator=(const FutexLock&) = delete;

  void lock() noexcept {
    const uint32_t here = generation();
    uint32_t seen = here | kFree;
    if (!state_.compare_exchange_strong(seen, here | kHeld, std::memory_order_acquire)) [[unlikely]]
      lock_contended(here);
  }

  bool try_lock() noexcept {
    const uint32_t here = generation();
    uint32_t seen = state_.load(std::memory_order_relaxed);
    return is_free(seen, here) &&
           state_.compare_exchange_strong(seen, here | kHeld, std::memory_order_acquire);
  }

  void unlock() noexcept {
    const uint32_t here = generation();
    if (state_.exchange(here | kFree, std::memory_order_release) == (here | kContended)) [[unlikely]]
      sys::futex_wake(&state_, 1);
  }

  /// In a fork child, while it has one thread: no holder of any lock survived the fork.
  static void forked() noexcept { generation_.fetch_add(kGeneration, std::memory_order_relaxed); }

 private:
  // state_: one of these, and above it how many forks lie between the first process and the one that wrote
  // it. What an earlier process wrote counts as free.
  static constexpr uint32_t kFree = 0, kHeld = 1, kContended = 2, kStates = 3, kGeneration = 4;

  static uint32_t generation() noexcept { return generation_.load(std::memory_order_relaxed); }
  static bool is_free(uint32_t state, uint32_t here) noexcept {
    return (state & kStates) == kFree || (state & ~kStates) != here;
  }

  void lock_contended(uint32_t here) noexcept {
    // The holder is at most a few hundred instructions from its unlock, unless it was descheduled.
    for (int spin = 0; spin < 100; ++spin) {
      uint32_t seen = state_.load(std::memory_order_relaxed);
      if (is_free(seen, here) && state_.compare_exchange_weak(seen, here | kHeld, std::memory_order_acquire))
        return;
      __builtin_ia32_pause();
    }
    for (;;) {
      uint32_t seen = state_.load(std::memory_order_relaxed);
      const bool free = is_free(seen, here);
      // Taken as contended: others may be waiting.
      if ((free || seen != (here | kContended)) &&
          !state_.compare_exchange_weak(seen, here | kContended, std::memory_order_acquire))
        continue;
      if (free) return;
      sys::futex_wait(&state_, here | kContended);
    }
  }

  inline static constinit std::atomic<uint32_t> generation_{0};
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

}  // namespace weft::engine
