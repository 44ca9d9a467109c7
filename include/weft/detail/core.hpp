// What the headers of the library are made of. Promises nothing to programs.
//
// The library and the program may hold different C++ runtimes (libweft.so brings its own, hidden), so nothing
// that the library exports throws, hands over ownership of memory, or has a type of the standard library with
// one. Functions report by Outcome or errno; the headers turn that into exceptions, in the program's own
// code.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#define WEFT_API [[gnu::visibility("default")]]

namespace weft::detail {

/// Nanoseconds of CLOCK_MONOTONIC; kNever: without end.
using Nanos = int64_t;
inline constexpr Nanos kNever = INT64_MAX;
/// A deadline that has passed. Not 0, by which some functions are told not to wait.
inline constexpr Nanos kPast = 1;

/// How a wait ended.
enum class Outcome : uint8_t {
  kReady = 1,    ///< as hoped for
  kTimeout,      ///< the wait's own deadline passed
  kInterrupted,  ///< a signal handler ran (only where asked for)
  kCancelled,    ///< the fiber is to end
  kClosed,       ///< what was waited for is closed
  kExpired,      ///< the deadline of a TimeoutScope passed
  kNoMemory,     ///< nothing was done
  kSelf,         ///< a fiber would wait for itself
};

/// The least that a fiber's stack may have.
inline constexpr size_t kMinStackSize = 16 * 1024;

enum WaitFlags : uint8_t { kUncancellable = 0, kCancellable = 1, kInterruptible = 2, kAhead = 8 };

WEFT_API Nanos now() noexcept;

/// The absolute time `span` from now; saturates. Negative spans are in the past.
template <typename Rep, typename Period>
Nanos deadline_after(std::chrono::duration<Rep, Period> span) noexcept {
  using Seconds = std::chrono::duration<double>;
  if (!(Seconds(span).count() < 9.0e9)) return kNever;  // 285 years, and NaN
  if (!(Seconds(span).count() > -9.0e9)) return kPast;
  return std::max(now() + std::chrono::duration_cast<std::chrono::nanoseconds>(span).count(), kPast);
}

/// A time point of any clock; a clock that is set later is not followed.
template <typename Clock, typename Duration>
Nanos deadline_at(const std::chrono::time_point<Clock, Duration>& time) noexcept {
  if (time == std::chrono::time_point<Clock, Duration>::max()) return kNever;
  const auto present = Clock::now();
  return time <= present ? kPast : deadline_after(time - present);
}

/// For a few instructions in which nothing is called. Used in libweft only.
class SpinLock {
 public:
  void lock() noexcept {
    while (locked_.exchange(true, std::memory_order_acquire)) wait();
  }
  void unlock() noexcept { locked_.store(false, std::memory_order_release); }
  /// In a fork child: whoever held it is gone.
  void reset() noexcept { locked_.store(false, std::memory_order_relaxed); }

 private:
  void wait() noexcept;  // until it looks free

  std::atomic<bool> locked_{false};
};

// --- Waiting at an address: engine::ParkingLot.

struct Condition {
  bool (*holds)(void* self) noexcept;  ///< still to wait? called with the address's queue locked
  void* self;
  void (*before)(void* self) noexcept = nullptr;  ///< called once queued, just before the caller suspends
};

/// Waits at `address` while `condition` holds: see engine::ParkingLot::park(). Fibers and native threads.
WEFT_API Outcome park(const void* address, Nanos deadline, uint8_t flags, const char* call,
                      const Condition& condition) noexcept;
WEFT_API int wake(const void* address, int count = INT32_MAX) noexcept;

/// Waits at `address` until `done()`; returns at once, kReady, if it is. `done` must not suspend.
template <typename Done>
Outcome await(const void* address, Nanos deadline, uint8_t flags, const char* call, Done done) noexcept {
  const Condition condition{[](void* self) noexcept { return !(*static_cast<Done*>(self))(); }, &done};
  for (;;) {
    if (done()) return Outcome::kReady;
    const Outcome outcome = park(address, deadline, flags, call, condition);
    if (outcome == Outcome::kReady) continue;
    return done() ? Outcome::kReady : outcome;
  }
}

/// How a cancellable wait of the calling fiber that began now would end at once: kReady if it would not.
WEFT_API Outcome revocation() noexcept;

/// Is the caller in a handler or hook of that actor? Only compares: the actor may be no more.
WEFT_API bool is_running_actor(const void* actor) noexcept;

/// Throws Cancelled or Timeout for these outcomes; does nothing for others. In error.hpp.
void raise(Outcome outcome);

}  // namespace weft::detail
