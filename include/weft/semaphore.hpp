// Semaphore: at most so many at a time.
#pragma once

#include "weft/error.hpp"

namespace weft {

/// A counter that acquire() waits for to be above zero. Acquiring is a cancellation point; a permit is never
/// lost by that. Waiters come in the order they came, but for newcomers that find a permit at once. Any
/// thread.
class Semaphore {
 public:
  explicit constexpr Semaphore(uint32_t permits) noexcept : permits_(permits) {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  bool try_acquire() noexcept {
    uint32_t seen = permits_.load(std::memory_order_relaxed);
    while (seen > 0)
      if (permits_.compare_exchange_weak(seen, seen - 1, std::memory_order_acquire,
                                         std::memory_order_relaxed))
        return true;
    return false;
  }
  void acquire() {
    if (!try_acquire()) detail::raise(acquire_slowly(detail::kNever));
  }
  template <typename Rep, typename Period>
  bool try_acquire_for(std::chrono::duration<Rep, Period> span) {
    return try_acquire() || acquired(acquire_slowly(detail::deadline_after(span)));
  }
  template <typename Clock, typename Duration>
  bool try_acquire_until(const std::chrono::time_point<Clock, Duration>& time) {
    return try_acquire() || acquired(acquire_slowly(detail::deadline_at(time)));
  }
  /// Gives `count` back, or adds as many. Never waits.
  WEFT_API void release(uint32_t count = 1) noexcept;
  /// As of now.
  uint32_t available() const noexcept { return permits_.load(std::memory_order_relaxed); }

 private:
  static bool acquired(detail::Outcome outcome) {
    detail::raise(outcome);
    return outcome == detail::Outcome::kReady;
  }
  WEFT_API detail::Outcome acquire_slowly(detail::Nanos deadline) noexcept;

  std::atomic<uint32_t> permits_;
};

/// Acquires for a scope.
class [[nodiscard]] Permit {
 public:
  explicit Permit(Semaphore& semaphore) : semaphore_(semaphore) { semaphore_.acquire(); }
  ~Permit() { semaphore_.release(); }
  Permit(const Permit&) = delete;
  Permit& operator=(const Permit&) = delete;

 private:
  Semaphore& semaphore_;
};

}  // namespace weft
