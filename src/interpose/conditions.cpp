// Condition variables.
//
// Fibers and routed native threads wait in the parking lot; a thread that waits inside libc (it began before
// the routing, or its code is not routed) is signalled as well. A wait never fails and never is interrupted:
// CPython waits for its own lock this way, and ends the process if that fails. Who is woken queues: the
// thread that was made to drop CPython's lock waits here until another has taken it, and must not come back
// first.
#include "interpose/calls.hpp"
#include "interpose/mutexes.hpp"
#include "interpose/support.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

// struct __pthread_cond_s, __wrefs: bit 0, process-shared; bit 1, times are CLOCK_MONOTONIC
// (pthread_condattr_setclock).
constexpr unsigned kShared = 1, kMonotonic = 2;

unsigned flags_of(pthread_cond_t* condition) noexcept {
  return __atomic_load_n(&condition->__data.__wrefs, __ATOMIC_RELAXED);
}

// Before there are fibers, and across processes from a thread that is none, libc's own wait does.
bool natively(pthread_cond_t* condition) noexcept {
  return !Runtime::get() || (!current_fiber() && (routing_ended() || (flags_of(condition) & kShared)));
}

int wait_on(pthread_cond_t* condition, pthread_mutex_t* mutex, Nanos deadline, const char* call) noexcept {
  ErrnoKeeper keeper;
  // An error-checking mutex that is not the caller's must be refused before anything is given up.
  int refused = 0;
  const Wake wake = ParkingLot::instance().park(
      condition, deadline, kUninterruptible, {WaitKind::kLock, call, condition}, [] { return true; },
      [&] {
        refused = unlock_mutex(mutex);
        if (refused) ParkingLot::instance().wake_all(condition);
      });
  if (refused) return refused;
  if (const int error = lock_mutex(mutex, kNever, call)) return error;
  return wake == Wake::kTimeout ? ETIMEDOUT : 0;
}

// The signal may come from another process, past every table of ours: look again at growing intervals. To the
// caller these are spurious wake-ups, which it must expect anyway.
int wait_shared(pthread_mutex_t* mutex, Nanos deadline, const char* call) noexcept {
  ErrnoKeeper keeper;
  if (const int error = unlock_mutex(mutex)) return error;
  const Nanos until = later(monotonic_now(), 5 * kMillisecond);
  Carrier::current()->sleep_until(until < deadline ? until : deadline, kUninterruptible, call);
  if (const int error = lock_mutex(mutex, kNever, call)) return error;
  return monotonic_now() >= deadline ? ETIMEDOUT : 0;
}

int wait_until(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock, const timespec* time,
               const char* call) noexcept {
  if (!valid(*time)) return EINVAL;
  const Nanos deadline = monotonic_deadline(clock, *time);
  if (flags_of(condition) & kShared) return wait_shared(mutex, deadline, call);
  return wait_on(condition, mutex, deadline, call);
}

}  // namespace

int routed::pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) noexcept {
  if (natively(condition)) return real::pthread_cond_wait(condition, mutex);
  if (flags_of(condition) & kShared) return wait_shared(mutex, kNever, "pthread_cond_wait");
  return wait_on(condition, mutex, kNever, "pthread_cond_wait");
}

int routed::pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                                   const timespec* time) noexcept {
  if (natively(condition)) return real::pthread_cond_timedwait(condition, mutex, time);
  const clockid_t clock = flags_of(condition) & kMonotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME;
  return wait_until(condition, mutex, clock, time, "pthread_cond_timedwait");
}

int routed::pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                                   const timespec* time) noexcept {
  if (natively(condition)) return real::pthread_cond_clockwait(condition, mutex, clock, time);
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  return wait_until(condition, mutex, clock, time, "pthread_cond_clockwait");
}

int routed::pthread_cond_signal(pthread_cond_t* condition) noexcept {
  if (Runtime::get() && !(flags_of(condition) & kShared) &&
      ParkingLot::instance().wake_one(condition, Turn::kInOrder) > 0)
    return 0;
  return real::pthread_cond_signal(condition);
}

int routed::pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  if (Runtime::get() && !(flags_of(condition) & kShared))
    ParkingLot::instance().wake_all(condition, Turn::kInOrder);
  return real::pthread_cond_broadcast(condition);
}

}  // namespace weft::engine::interpose
