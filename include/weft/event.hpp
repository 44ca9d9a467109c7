// Event, Latch, Barrier: waiting for something to have happened.
#pragma once

#include "weft/error.hpp"

namespace weft {

/// A flag that many wait for. Waiting is a cancellation point. Any thread.
class Event {
 public:
  constexpr Event() noexcept = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  bool is_set() const noexcept { return state_.load(std::memory_order_acquire) & kSet; }
  /// Wakes everybody who waits; until reset() nobody waits any more.
  WEFT_API void set() noexcept;
  void reset() noexcept { state_.fetch_and(~kSet, std::memory_order_relaxed); }

  void wait() {
    if (!is_set()) detail::raise(wait_slowly(detail::kNever));
  }
  /// False if it is not set after `span`.
  template <typename Rep, typename Period>
  bool wait_for(std::chrono::duration<Rep, Period> span) {
    return is_set() || seen(wait_slowly(detail::deadline_after(span)));
  }
  template <typename Clock, typename Duration>
  bool wait_until(const std::chrono::time_point<Clock, Duration>& time) {
    return is_set() || seen(wait_slowly(detail::deadline_at(time)));
  }

 private:
  static bool seen(detail::Outcome outcome) {
    detail::raise(outcome);
    return outcome == detail::Outcome::kReady;
  }
  WEFT_API detail::Outcome wait_slowly(detail::Nanos deadline) noexcept;

  // How often it was set, and whether it is.
  static constexpr uint32_t kSet = 1, kTime = 2;
  std::atomic<uint32_t> state_{0};
};

/// Counts down, once, to zero; waiters wait for that. Waiting is a cancellation point. Any thread.
class Latch {
 public:
  explicit constexpr Latch(uint32_t count) noexcept : count_(count) {}
  Latch(const Latch&) = delete;
  Latch& operator=(const Latch&) = delete;

  /// Throws std::logic_error, and counts nothing, if fewer than `by` are left.
  void count_down(uint32_t by = 1) {
    if (!try_count_down(by)) throw std::logic_error("weft::Latch::count_down: below zero");
  }
  bool try_wait() const noexcept { return count_.load(std::memory_order_acquire) == 0; }
  void wait() {
    if (!try_wait()) detail::raise(wait_slowly(detail::kNever));
  }
  template <typename Rep, typename Period>
  bool wait_for(std::chrono::duration<Rep, Period> span) {
    if (try_wait()) return true;
    const detail::Outcome outcome = wait_slowly(detail::deadline_after(span));
    detail::raise(outcome);
    return outcome == detail::Outcome::kReady;
  }
  void arrive_and_wait(uint32_t by = 1) {
    count_down(by);
    wait();
  }

 private:
  WEFT_API bool try_count_down(uint32_t by) noexcept;
  WEFT_API detail::Outcome wait_slowly(detail::Nanos deadline) noexcept;

  std::atomic<uint32_t> count_;
};

/// Lets `parties` go on together, again and again. Waiting is a cancellation point: one that leaves that way
/// has not arrived, and the others wait for another. Any thread.
class Barrier {
 public:
  explicit Barrier(uint32_t parties) : parties_(parties) {
    if (parties == 0) throw std::invalid_argument("weft::Barrier: there must be one party at least");
  }
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  /// Returns, for one of each round, true: whoever came last.
  bool arrive_and_wait() {
    bool last = false;
    detail::raise(arrive(&last));
    return last;
  }
  uint32_t parties() const noexcept { return parties_; }

 private:
  WEFT_API detail::Outcome arrive(bool* last) noexcept;

  const uint32_t parties_;
  std::atomic<uint64_t> state_{0};  // the round in the upper half, how many have arrived in the lower
};

}  // namespace weft
