// Raw system calls, for code that must work inside a process whose libc calls are routed to this very engine.
//
// They bypass libc altogether: no errno, no cancellation point, no procedure linkage table slot that the
// interposition could have rewritten. Each returns what the kernel returned: a value, or a negated errno.
// All are async-signal-safe.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace weft::sys {

template <typename... Args>
inline long call(long number, Args... args) noexcept {
  static_assert(sizeof...(Args) <= 6);
  const long padded[6] = {(long)args...};
  register long a1 asm("rdi") = padded[0];
  register long a2 asm("rsi") = padded[1];
  register long a3 asm("rdx") = padded[2];
  register long a4 asm("r10") = padded[3];
  register long a5 asm("r8") = padded[4];
  register long a6 asm("r9") = padded[5];
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a6)
               : "rcx", "r11", "memory");
  return result;
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
  const Timespec until{deadline / 1'000'000'000, deadline % 1'000'000'000};
  return call(SYS_futex, word, kFutexWaitBitsetPrivate, expected, deadline == INT64_MAX ? nullptr : &until,
              nullptr, 0xffffffffu);
}

inline long futex_wake(const void* word, int count) noexcept {
  return call(SYS_futex, word, kFutexWakePrivate, count);
}

inline int thread_id() noexcept { return static_cast<int>(call(SYS_gettid)); }

}  // namespace weft::sys
