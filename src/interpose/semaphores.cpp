// Semaphores.
//
// The semaphore's value stays the truth: waiters take it with libc's trywait and park where that finds none;
// a poster posts it with libc's post and then wakes one who is parked.
#include "interpose/semaphores.hpp"

#include "interpose/calls.hpp"
#include "interpose/support.hpp"
#include "poll/offload_pool.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

// Process-shared and named semaphores may be posted by another process, which knows nothing of our table.
// glibc marks them in the word behind the value (struct new_sem, sysdeps/nptl/internaltypes.h).
bool is_shared(const sem_t* semaphore) noexcept {
  return reinterpret_cast<const int*>(semaphore)[2] != 0;
}

// What handlers have posted. A handler may interrupt the very code that holds a queue's lock, so it only
// leaves a note.
constexpr int kDeferred = 64;
constinit std::atomic<const void*> g_deferred[kDeferred];
constinit std::atomic<bool> g_any_deferred{false};

void defer_wake(const void* semaphore) noexcept {
  for (auto& slot : g_deferred) {
    const void* empty = nullptr;
    if (slot.load(std::memory_order_relaxed) == semaphore || slot.compare_exchange_strong(empty, semaphore))
      break;
  }
  g_any_deferred.store(true, std::memory_order_release);
  if (Runtime* runtime = Runtime::get()) runtime->carrier().request_attention();
}

// A pool thread waits in the kernel, in slices so that an interrupted fiber gets its thread back.
int wait_shared(sem_t* semaphore, Nanos deadline, const char* call) noexcept {
  constexpr Nanos kSlice = 50 * kMillisecond;
  const auto& missed = current_fiber()->signals.missed;
  const uint32_t missed_before = missed.load(std::memory_order_relaxed);
  for (;;) {
    int result = -1;
    OffloadPool::instance().run(call, [&]() noexcept {
      const Nanos end = later(monotonic_now(), kSlice);
      const Nanos until = end < deadline ? end : deadline;
      const timespec time{until / kSecond, until % kSecond};
      result = real::sem_clockwait(semaphore, CLOCK_MONOTONIC, &time);
    });
    if (result == 0 || errno != ETIMEDOUT || monotonic_now() >= deadline) return result;
    if (missed.load(std::memory_order_relaxed) != missed_before) return fail(EINTR);
  }
}

int wait_until(sem_t* semaphore, Nanos deadline, const char* call) noexcept {
  const int kept = errno;
  if (is_shared(semaphore)) return wait_shared(semaphore, deadline, call);
  uint8_t flags = kInterruptible | (deadline == kNever ? kRestartable : 0);
  Fiber* self = current_fiber();
  Fiber::SemaphoreWait* revocable = self ? self->semaphore_wait : nullptr;
  if (revocable && revocable->semaphore && revocable->semaphore != semaphore) revocable = nullptr;
  if (revocable) flags |= kCancellable | kUnlessTold;
  for (;;) {
    if (routing_ended() && !current_fiber()) {
      errno = kept;
      if (deadline == kNever) return real::sem_wait(semaphore);
      const timespec until{deadline / kSecond, deadline % kSecond};
      return real::sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
    }
    bool taken = false;
    const Wake wake = ParkingLot::instance().park(semaphore, deadline, flags,
                                                  {WaitKind::kLock, call, semaphore}, [&]() noexcept {
                                                    taken = ::sem_trywait(semaphore) == 0;
                                                    return !taken;
                                                  });
    if (taken || ::sem_trywait(semaphore) == 0) {
      errno = kept;
      return 0;
    }
    if (wake == Wake::kTimeout) return fail(ETIMEDOUT);
    if (wake == Wake::kInterrupted) return fail(EINTR);
    if (revocable && (wake == Wake::kCancelled || wake == Wake::kExpired)) {
      revocable->outcome = wake;
      return fail(ETIMEDOUT);
    }
    flags |= kFrontOfQueue;
  }
}

// True if the value was there to take, or the call is refused: `result` is what to return.
bool quick(sem_t* semaphore, int& result) noexcept {
  const int kept = errno;
  result = ::sem_trywait(semaphore);
  if (result != 0 && errno == EAGAIN) {
    errno = kept;
    return false;
  }
  return true;
}

}  // namespace

int routed::sem_wait(sem_t* semaphore) noexcept {
  if (!current_fiber() && (!Runtime::get() || is_shared(semaphore))) {
    PinScope pin("sem_wait", __builtin_return_address(0));
    return real::sem_wait(semaphore);
  }
  int result;
  if (quick(semaphore, result)) return result;
  return wait_until(semaphore, kNever, "sem_wait");
}

int routed::sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* time) noexcept {
  if (!current_fiber() && (!Runtime::get() || is_shared(semaphore))) {
    PinScope pin("sem_clockwait", __builtin_return_address(0));
    return real::sem_clockwait(semaphore, clock, time);
  }
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return fail(EINVAL);
  if (!valid(*time)) return fail(EINVAL);
  int result;
  if (quick(semaphore, result)) return result;
  return wait_until(semaphore, monotonic_deadline(clock, *time), "sem_clockwait");
}

int routed::sem_timedwait(sem_t* semaphore, const timespec* time) noexcept {
  if (!current_fiber() && (!Runtime::get() || is_shared(semaphore))) {
    PinScope pin("sem_timedwait", __builtin_return_address(0));
    return real::sem_timedwait(semaphore, time);
  }
  if (!valid(*time)) return fail(EINVAL);
  int result;
  if (quick(semaphore, result)) return result;
  return wait_until(semaphore, monotonic_deadline(CLOCK_REALTIME, *time), "sem_timedwait");
}

int routed::sem_post(sem_t* semaphore) noexcept {
  const int result = real::sem_post(semaphore);
  if (result == 0) {
    if (thread_state().handler) [[unlikely]]
      defer_wake(semaphore);
    else if (Runtime::get())
      ParkingLot::instance().wake_one(semaphore);
  }
  return result;
}

void wake_deferred_semaphores() noexcept {
  if (!g_any_deferred.exchange(false, std::memory_order_acquire)) return;
  for (auto& slot : g_deferred)
    if (const void* semaphore = slot.exchange(nullptr)) ParkingLot::instance().wake_all(semaphore);
}

}  // namespace weft::engine::interpose
