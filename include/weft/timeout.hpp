// Deadlines and cancellation for a stretch of code.
#pragma once

#include <concepts>
#include <functional>
#include <utility>

#include "weft/error.hpp"

namespace weft {

namespace detail {
/// Makes `deadline` the calling fiber's, unless a nearer one is in force. Returns what was in force. A native
/// thread has none: kNever.
WEFT_API Nanos push_expiry(Nanos deadline) noexcept;
WEFT_API void pop_expiry(Nanos former) noexcept;
WEFT_API void push_shield(Nanos* former) noexcept;
WEFT_API void pop_shield(Nanos former) noexcept;
}  // namespace detail

/// While it lives, cancellable waits of the fiber that made it end at its deadline, by throwing Timeout; so
/// do blocking calls of C libraries after patch(), which fail with ETIMEDOUT. Nests: the nearest deadline
/// counts. What does not wait is not ended: see this_fiber::check(). To be destroyed by the fiber that made
/// it, in reverse order. Starts the engine on the calling thread if there is none; on another native thread
/// it does nothing but tell the time.
class [[nodiscard]] TimeoutScope {
 public:
  template <typename Rep, typename Period>
  explicit TimeoutScope(std::chrono::duration<Rep, Period> span)
      : TimeoutScope(detail::deadline_after(span)) {}
  template <typename Clock, typename Duration>
  explicit TimeoutScope(const std::chrono::time_point<Clock, Duration>& time)
      : TimeoutScope(detail::deadline_at(time)) {}
  ~TimeoutScope() { detail::pop_expiry(former_); }
  TimeoutScope(const TimeoutScope&) = delete;
  TimeoutScope& operator=(const TimeoutScope&) = delete;

  /// Has its deadline passed? Tells whose Timeout one is that was caught outside of several.
  bool expired() const noexcept { return deadline_ != detail::kNever && detail::now() >= deadline_; }

 private:
  explicit TimeoutScope(detail::Nanos deadline) noexcept
      : deadline_(deadline), former_(detail::push_expiry(deadline)) {}

  detail::Nanos deadline_;
  detail::Nanos former_;
};

/// Calls `function()` within a TimeoutScope and returns what it returns.
template <typename Rep, typename Period, std::invocable F>
decltype(auto) timeout(std::chrono::duration<Rep, Period> span, F&& function) {
  TimeoutScope scope(span);
  return std::invoke(std::forward<F>(function));
}

/// While it lives, neither a cancellation nor a TimeoutScope around it ends a wait of the fiber that made it:
/// for cleanup that must wait. A TimeoutScope within it counts. Nests.
class [[nodiscard]] Shield {
 public:
  Shield() noexcept { detail::push_shield(&former_); }
  ~Shield() { detail::pop_shield(former_); }
  Shield(const Shield&) = delete;
  Shield& operator=(const Shield&) = delete;

 private:
  detail::Nanos former_;
};

/// Calls `function()` under a Shield and returns what it returns.
template <std::invocable F>
decltype(auto) shield(F&& function) {
  Shield shielded;
  return std::invoke(std::forward<F>(function));
}

}  // namespace weft
