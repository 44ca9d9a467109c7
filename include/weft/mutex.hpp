// Mutex: mutual exclusion between fibers, and between fibers and native threads.
#pragma once

#include "weft/error.hpp"

namespace weft {

/// A Lockable and TimedLockable: std::unique_lock, std::scoped_lock and std::lock work with it. Four bytes. A
/// fiber that finds it taken parks; waiters are woken in the order they came, but a newcomer may take it
/// first.
///
/// Not recursive: locking it again is a deadlock. May be unlocked by another fiber than the one that locked
/// it. Waiting for it is no cancellation point, so that cleanup can lock; the timed functions take their own
/// time only. Any thread.
class Mutex {
 public:
  constexpr Mutex() noexcept = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() noexcept {
    if (!try_lock()) lock_slowly(detail::kNever);
  }
  bool try_lock() noexcept {
    uint32_t expected = kFree;
    return state_.compare_exchange_strong(expected, kTaken, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  template <typename Rep, typename Period>
  bool try_lock_for(std::chrono::duration<Rep, Period> span) noexcept {
    return try_lock() || lock_slowly(detail::deadline_after(span));
  }
  template <typename Clock, typename Duration>
  bool try_lock_until(const std::chrono::time_point<Clock, Duration>& time) noexcept {
    return try_lock() || lock_slowly(detail::deadline_at(time));
  }
  /// REQUIRES: it is locked; else the program ends with a message.
  void unlock() noexcept {
    if (const uint32_t former = state_.exchange(kFree, std::memory_order_release); former != kTaken)
      unlock_slowly(former);
  }

 private:
  static constexpr uint32_t kFree = 0, kTaken = 1, kWaited = 2;  // kWaited: taken, and somebody waits

  WEFT_API bool lock_slowly(detail::Nanos deadline) noexcept;
  WEFT_API void unlock_slowly(uint32_t former) noexcept;

  std::atomic<uint32_t> state_{kFree};
};

}  // namespace weft
