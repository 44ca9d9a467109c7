// Sleeping: nanosleep and kin, and giving way.
#include "interpose/calls.hpp"
#include "interpose/support.hpp"

namespace weft::engine::interpose {

namespace {

// Returns 0 or an errno.
int sleep_until(Nanos deadline, const char* call) noexcept {
  const Wake wake = Carrier::current()->sleep_until(deadline, kInterruptible | kCancellable, call);
  return wake == Wake::kInterrupted ? EINTR : revocation_error(wake);
}

// Sleeps `length`; stores what is left of it in *rest when it ends early. Returns 0 or an errno.
int sleep_for(Nanos length, timespec* rest, const char* call) noexcept {
  const Nanos deadline = later(monotonic_now(), length);
  const int error = sleep_until(deadline, call);
  if (error && rest) {
    const Nanos present = monotonic_now();
    const Nanos left = deadline > present ? deadline - present : 0;
    *rest = {left / kSecond, left % kSecond};
  }
  return error;
}

}  // namespace

int routed::clock_nanosleep(clockid_t clock, int flags, const timespec* time, timespec* rest) noexcept {
  const bool wall_clock =
      clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME || clock == CLOCK_TAI;
  if (!current_fiber() || !wall_clock || !time || !valid(*time) || time->tv_sec < 0) {
    PinScope pin("clock_nanosleep", __builtin_return_address(0));
    return real::clock_nanosleep(clock, flags, time, rest);
  }
  ErrnoKeeper keeper;
  if (flags & TIMER_ABSTIME) return sleep_until(monotonic_deadline(clock, *time), "clock_nanosleep");
  return sleep_for(to_nanos(*time), rest, "clock_nanosleep");
}

int routed::nanosleep(const timespec* time, timespec* rest) noexcept {
  if (!current_fiber() || !time || !valid(*time) || time->tv_sec < 0) return real::nanosleep(time, rest);
  const int error = sleep_for(to_nanos(*time), rest, "nanosleep");
  return error ? fail(error) : 0;
}

int routed::usleep(useconds_t microseconds) noexcept {
  if (!current_fiber()) return real::usleep(microseconds);
  const int error = sleep_for(microseconds * kMicrosecond, nullptr, "usleep");
  return error ? fail(error) : 0;
}

unsigned routed::sleep(unsigned seconds) noexcept {
  if (!current_fiber()) return real::sleep(seconds);
  ErrnoKeeper keeper;
  timespec rest{};
  if (!sleep_for(seconds * kSecond, &rest, "sleep")) return 0;
  return static_cast<unsigned>(rest.tv_sec + (rest.tv_nsec > 0));
}

int routed::thrd_sleep(const timespec* time, timespec* rest) noexcept {
  if (!current_fiber() || !time || !valid(*time) || time->tv_sec < 0) return real::thrd_sleep(time, rest);
  ErrnoKeeper keeper;
  return sleep_for(to_nanos(*time), rest, "thrd_sleep") ? -1 : 0;
}

int routed::sched_yield() noexcept {
  if (!current_fiber()) return real::sched_yield();
  Carrier::current()->yield();
  return 0;
}

void routed::thrd_yield() noexcept {
  if (!current_fiber()) return real::thrd_yield();
  Carrier::current()->yield();
}

}  // namespace weft::engine::interpose
