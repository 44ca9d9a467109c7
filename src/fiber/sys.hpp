// Raw system calls, for code that must work inside a process whose libc calls are routed to this very engine.
//
// They bypass libc altogether: no errno, no cancellation point, no procedure linkage table slot that the
// interposition could have rewritten. Each returns what the kernel returned: a value, or a negated errno.
// All are async-signal-safe.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace weft::engine::sys {

namespace detail {
inline long call(long number, long a1, long a2 = 0, long a3 = 0, long a4 = 0, long a5 = 0,
                 long a6 = 0) noexcept {
  // Nothing may come between these and the instruction: a sanitizer's check, say, would be a call, and
  // clobber them.
  register long r1 asm("rdi") = a1;
  register long r2 asm("rsi") = a2;
  register long r3 asm("rdx") = a3;
  register long r4 asm("r10") = a4;
  register long r5 asm("r8") = a5;
  register long r6 asm("r9") = a6;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5), "r"(r6)
               : "rcx", "r11", "memory");
  return result;
}
}  // namespace detail

template <typename... Args>
inline long call(long number, Args... args) noexcept {
  static_assert(sizeof...(Args) <= 6);
  if constexpr (sizeof...(Args) == 0)
    return detail::call(number, 0);
  else
    return detail::call(number, (long)args...);
}

inline constexpr int kFutexWaitBitsetPrivate = 9 | 128;
inline constexpr int kFutexWakePrivate = 1 | 128;

struct Timespec {
  int64_t seconds;
  int64_t nanoseconds;
};

/// Sleeps while *word == expected, until woken, a signal, or the absolute CLOCK_MONOTONIC time `deadline`
/// (nanoseconds; INT64_MAX: none). Returns 0, -EAGAIN, -EINTR or -ETIMEDOUT.
inline long futex_wait(const void* word, uint32_t expected, int64_t deadline = INT64_MAX) noexcept {
  deadline = deadline < 0 ? 0 : deadline;  // the kernel takes no other
  const Timespec until{deadline / 1'000'000'000, deadline % 1'000'000'000};
  return call(SYS_futex, word, kFutexWaitBitsetPrivate, expected, deadline == INT64_MAX ? nullptr : &until,
              nullptr, 0xffffffffu);
}

inline long futex_wake(const void* word, int count) noexcept {
  return call(SYS_futex, word, kFutexWakePrivate, count);
}

inline int thread_id() noexcept {
  return static_cast<int>(call(SYS_gettid));
}

}  // namespace weft::engine::sys
