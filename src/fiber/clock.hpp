// Time as the engine counts it: nanoseconds of CLOCK_MONOTONIC in a 64-bit integer.
#pragma once

#include <cstdint>
#include <ctime>

namespace weft::engine {

/// A point in time, or a length of time, in nanoseconds.
using Nanos = int64_t;

inline constexpr Nanos kNever = INT64_MAX;
inline constexpr Nanos kMicrosecond = 1'000, kMillisecond = 1'000'000, kSecond = 1'000'000'000;

/// `start + length`, staying at kNever instead of overflowing. REQUIRES: length >= 0.
constexpr Nanos later(Nanos start, Nanos length) noexcept {
  return length >= kNever - start ? kNever : start + length;
}

constexpr Nanos to_nanos(const timespec& time) noexcept {
  if (time.tv_sec >= kNever / kSecond) return kNever;
  if (time.tv_sec < 0) return 0;
  return time.tv_sec * kSecond + time.tv_nsec;
}

/// Where a carrier reads the time; tests put a fake in its place.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Nanoseconds since an arbitrary start; never goes back. Any thread.
  virtual Nanos now() noexcept = 0;
};

/// CLOCK_MONOTONIC, read without a system call.
inline Nanos monotonic_now() noexcept {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

class MonotonicClock final : public Clock {
 public:
  Nanos now() noexcept override { return monotonic_now(); }
};

}  // namespace weft::engine
