// ConditionVariable: waiting, with a Mutex let go, for what others will do under it.
#pragma once

#include <condition_variable>
#include <mutex>

#include "weft/mutex.hpp"

namespace weft {

/// As std::condition_variable, for weft::Mutex. Waiting is a cancellation point: the lock is held again when
/// Cancelled or Timeout is thrown. No wake-up is lost by that: one that was meant for a waiter which is being
/// cancelled goes to the next. Any thread.
class ConditionVariable {
 public:
  constexpr ConditionVariable() noexcept = default;
  ConditionVariable(const ConditionVariable&) = delete;
  ConditionVariable& operator=(const ConditionVariable&) = delete;

  void notify_one() noexcept { notify(1); }
  void notify_all() noexcept { notify(INT32_MAX); }

  /// REQUIRES, as all that follow: `lock` is locked by the caller.
  void wait(std::unique_lock<Mutex>& lock) { detail::raise(wait_until_nanos(*lock.mutex(), detail::kNever)); }
  template <typename Ready>
  void wait(std::unique_lock<Mutex>& lock, Ready ready) {
    while (!ready()) wait(lock);
  }

  template <typename Clock, typename Duration>
  std::cv_status wait_until(std::unique_lock<Mutex>& lock,
                            const std::chrono::time_point<Clock, Duration>& time) {
    return status(wait_until_nanos(*lock.mutex(), detail::deadline_at(time)));
  }
  template <typename Clock, typename Duration, typename Ready>
  bool wait_until(std::unique_lock<Mutex>& lock, const std::chrono::time_point<Clock, Duration>& time,
                  Ready ready) {
    return wait_nanos(lock, detail::deadline_at(time), ready);
  }
  template <typename Rep, typename Period>
  std::cv_status wait_for(std::unique_lock<Mutex>& lock, std::chrono::duration<Rep, Period> span) {
    return status(wait_until_nanos(*lock.mutex(), detail::deadline_after(span)));
  }
  template <typename Rep, typename Period, typename Ready>
  bool wait_for(std::unique_lock<Mutex>& lock, std::chrono::duration<Rep, Period> span, Ready ready) {
    return wait_nanos(lock, detail::deadline_after(span), ready);
  }

 private:
  template <typename Ready>
  bool wait_nanos(std::unique_lock<Mutex>& lock, detail::Nanos deadline, Ready& ready) {
    while (!ready())
      if (status(wait_until_nanos(*lock.mutex(), deadline)) == std::cv_status::timeout) return ready();
    return true;
  }
  static std::cv_status status(detail::Outcome outcome) {
    detail::raise(outcome);
    return outcome == detail::Outcome::kTimeout ? std::cv_status::timeout : std::cv_status::no_timeout;
  }
  WEFT_API detail::Outcome wait_until_nanos(Mutex& mutex, detail::Nanos deadline) noexcept;
  WEFT_API void notify(int count) noexcept;

  std::atomic<uint32_t> notified_{0};  // waiters park at its address
};

}  // namespace weft
