// How a routed socket call waits.
#pragma once

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/support.hpp"
#include "poll/poller.hpp"

namespace weft::engine::interpose {

/// Sets errno from a system call's result, a value or a negated errno, and returns what libc's function does.
/// Not inlined: the address of errno must not be kept from before a switch.
[[gnu::noinline]] inline ssize_t libc_result(long result) noexcept {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

/// True where a call that goes straight to libc is to be counted if it blocks.
inline bool may_pin() noexcept {
  const ThreadState& thread = thread_state();
  return thread.carrier && !thread.handler;
}

/// Where the caller cannot switch: libc's call instead, the last thing the routed one does, so that a thread
/// cancelled in it need not unwind through us. On a fiber, which may find its sockets ready for ever, others
/// get their turn first if that is due.
#define WEFT_STRAIGHT(name, ...)                      \
  if (Fiber* const self = current_fiber()) {          \
    self->carrier().give_way();                       \
  } else {                                            \
    if (!may_pin()) return real::name(__VA_ARGS__);   \
    PinScope pin(#name, __builtin_return_address(0)); \
    return real::name(__VA_ARGS__);                   \
  }

/// The system call of that name; its result, or a negated errno. ThreadSanitizer must see the calls by which
/// threads hand data to each other.
#ifdef WEFT_TSAN
inline long negated(long result) noexcept {
  return result < 0 ? -errno : result;
}
#define WEFT_TRY(name, ...) negated(real::name(__VA_ARGS__))
#else
#define WEFT_TRY(name, ...) sys::call(SYS_##name, __VA_ARGS__)
#endif

/// The waits of one call on one descriptor: after each attempt that would have blocked, next() parks until
/// another is worth while, or says with what the call fails. What it must ask the kernel first it asks when
/// it is first called, so that a call which need not wait pays nothing.
class IoWait {
 public:
  /// `events`: POLLIN or POLLOUT. `timeout_error`: what a passed SO_RCVTIMEO or SO_SNDTIMEO gives. `call`:
  /// static storage.
  IoWait(int fd, short events, const char* call, int timeout_error = EAGAIN) noexcept
      : call_(call), timeout_error_(timeout_error) {
    wait_.fd = fd;
    wait_.events = events;
  }

  /// 0: try again; else an errno: EAGAIN if the description is O_NONBLOCK.
  int next() noexcept;

  /// As next(), for a call that is to block whatever O_NONBLOCK says, and when no event tells that it is
  /// worth while: it tries again after a while, longer each time.
  int next_blindly() noexcept;

  /// The last attempt did something: readiness since then is news.
  void progressed() noexcept { in_vain_ = -1; }

  /// What the last wait saw.
  short seen() const noexcept { return wait_.revents; }
  Nanos deadline() noexcept { return start(), deadline_; }
  uint8_t flags() noexcept { return start(), flags_; }

 private:
  void start() noexcept;
  int finish(Wake wake) noexcept;

  FdWait wait_;
  const char* call_;
  int timeout_error_;
  int last_error_ = 0;  // the next attempt is the last; what it fails with if it would block
  Nanos deadline_ = 0;  // 0: not asked for yet
  Nanos pause_ = 0;
  int in_vain_ =
      -1;  // attempts that failed although poll(2) said they would not; -1: no attempt since progress
  uint8_t flags_ = 0;
  bool asked_ = false;
};

}  // namespace weft::engine::interpose
