// Mutexes and spin locks.
//
// The mutex itself stays the truth: a fiber takes it with libc's trylock, and parks where that finds it
// taken; whoever unlocks it does so with libc's unlock, and then wakes who is parked. So fibers, native
// threads and libc's own code exclude each other. Only the owner is told apart here: libc knows owners by
// kernel thread id, which the fibers of a carrier share. A mutex that a fiber holds therefore carries the
// fiber's tag in place of the id (struct __pthread_mutex_s is part of libc's ABI, <bits/struct_mutex.h>),
// and the id is put back for the moment of unlocking.
#include "interpose/mutexes.hpp"

#include <cstdio>
#include <cstring>

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/support.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

constexpr int kTypeMask = 3, kRecursive = PTHREAD_MUTEX_RECURSIVE, kErrorCheck = PTHREAD_MUTEX_ERRORCHECK;
// __kind, bits 4 to 7: robust, priority inheritance, priority ceiling, process-shared. The kernel or another
// process knows the owner of such a mutex by its thread id.
constexpr int kKernelOwned = 0xf0;

constexpr int kTagBase = 1 << 30;

int kind_of(pthread_mutex_t* mutex) noexcept {
  return __atomic_load_n(&mutex->__data.__kind, __ATOMIC_RELAXED);
}
int owner_of(pthread_mutex_t* mutex) noexcept {
  return __atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED);
}
void set_owner(pthread_mutex_t* mutex, int owner) noexcept {
  __atomic_store_n(&mutex->__data.__owner, owner, __ATOMIC_RELAXED);
}

// As the running fiber: 0, EBUSY, EAGAIN (too deep), or EDEADLK if an error-checking mutex is the fiber's
// own.
int try_lock(Fiber& self, pthread_mutex_t* mutex) noexcept {
  const int kind = kind_of(mutex);
  if (kind & kKernelOwned) return real::pthread_mutex_trylock(mutex);
  const int type = kind & kTypeMask, tag = thread_tag(self);
  if (type == kRecursive || type == kErrorCheck) {
    const int owner = owner_of(mutex);
    if (owner == tag) {
      if (type == kErrorCheck) return EDEADLK;
      if (mutex->__data.__count == UINT32_MAX) return EAGAIN;
      ++mutex->__data.__count;
      return 0;
    }
    // Held under the carrier's own id: locked before there were fibers, or by code that is not routed.
    if (owner == self.carrier().thread_id() && !self.is_main()) return EBUSY;
  }
  const int error = real::pthread_mutex_trylock(mutex);
  if (error == 0 && owner_of(mutex) == self.carrier().thread_id() && mutex->__data.__count <= 1)
    set_owner(mutex, tag);
  return error;
}

// A mutex whose unlocker need not come through the table of waiters.
int lock_by_polling(Fiber& self, pthread_mutex_t* mutex, Nanos deadline, const char* call) noexcept {
  for (Nanos pause = kMillisecond / 4;; pause = pause < 16 * kMillisecond ? pause * 2 : pause) {
    const Nanos present = monotonic_now();
    if (present >= deadline) return ETIMEDOUT;
    const Nanos until = later(present, pause);
    self.begin_wait(kUninterruptible, {WaitKind::kLock, call, mutex});
    self.carrier().park(until < deadline ? until : deadline);
    if (const int error = try_lock(self, mutex); error != EBUSY) return error;
  }
}

int lock_slow(Fiber& self, pthread_mutex_t* mutex, Nanos deadline, const char* call) noexcept {
  if (kind_of(mutex) & kKernelOwned) return lock_by_polling(self, mutex, deadline, call);
  uint8_t flags = kUninterruptible;
  for (;;) {
    int error = EBUSY;
    const Wake wake =
        ParkingLot::instance().park(mutex, deadline, flags, {WaitKind::kLock, call, mutex}, [&]() noexcept {
          error = try_lock(self, mutex);
          return error == EBUSY;
        });
    if (error == EBUSY) error = wake == Wake::kTimeout ? ETIMEDOUT : try_lock(self, mutex);
    if (error != EBUSY) return error;
    flags = kFrontOfQueue;
  }
}

int timed_lock(pthread_mutex_t* mutex, clockid_t clock, const timespec* time, const char* call) noexcept {
  ErrnoKeeper keeper;
  Fiber* self = current_fiber();
  const int error = try_lock(*self, mutex);
  if (error != EBUSY) return error;
  if (!valid(*time)) return EINVAL;
  return lock_slow(*self, mutex, monotonic_deadline(clock, *time), call);
}

}  // namespace

int thread_tag(const Fiber& fiber) noexcept {
  return kTagBase | static_cast<int>(fiber.id() & (kTagBase - 1));
}

Fiber* fiber_of_tag(int tag) noexcept {
  Fiber* found = nullptr;
  if (tag & kTagBase)
    Fiber::for_each([&](Fiber& fiber) {
      if (thread_tag(fiber) == tag && !fiber.done()) found = &fiber;
    });
  return found;
}

int lock_mutex(pthread_mutex_t* mutex, Nanos deadline, const char* call) noexcept {
  Fiber* self = Carrier::running_fiber();
  if (!self) return real::pthread_mutex_lock(mutex);
  ErrnoKeeper keeper;
  const int error = try_lock(*self, mutex);
  if (error != EBUSY) [[likely]]
    return error;
  if (current_fiber()) return lock_slow(*self, mutex, deadline, call);
  PinScope pin(call, __builtin_return_address(0));
  return real::pthread_mutex_lock(mutex);
}

int unlock_mutex(pthread_mutex_t* mutex) noexcept {
  const int kind = kind_of(mutex), type = kind & kTypeMask;
  if (!(kind & kKernelOwned) && (type == kRecursive || type == kErrorCheck)) {
    Fiber* self = Carrier::running_fiber();
    const int owner = owner_of(mutex);
    if (self && owner == thread_tag(*self)) {
      if (type == kRecursive && mutex->__data.__count > 1) {
        --mutex->__data.__count;
        return 0;
      }
      set_owner(mutex, self->carrier().thread_id());
    } else if (owner & kTagBase) {
      return EPERM;
    }
  }
  const int error = real::pthread_mutex_unlock(mutex);
  // The mutex may be gone already; its address is all that is used.
  if (Runtime::get()) ParkingLot::instance().wake_one(mutex);
  return error;
}

void describe_holder(const WaitReason& reason, host::TextSink& sink) noexcept {
  const Fiber* holder = nullptr;
  if (reason.kind == WaitKind::kJoin)
    holder = static_cast<const Fiber*>(reason.object);
  else if (strncmp(reason.call, "pthread_mutex", 13) == 0)
    holder = fiber_of_tag(owner_of(static_cast<pthread_mutex_t*>(const_cast<void*>(reason.object))));
  if (!Fiber::is_block(holder)) return;
  char text[64];
  const Fiber::Name name = holder->name();
  snprintf(text, sizeof text, name[0] ? "%s fiber %lu (%s)" : "%s fiber %lu",
           reason.kind == WaitKind::kJoin ? "the end of" : "held by",
           static_cast<unsigned long>(holder->id()), name.data());
  sink.write(text);
}

int routed::pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  return lock_mutex(mutex, kNever, "pthread_mutex_lock");
}

int routed::pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  Fiber* self = Carrier::running_fiber();
  if (!self) return real::pthread_mutex_trylock(mutex);
  const int error = try_lock(*self, mutex);
  return error == EDEADLK ? EBUSY : error;
}

int routed::pthread_mutex_timedlock(pthread_mutex_t* mutex, const timespec* time) noexcept {
  if (!current_fiber()) return real::pthread_mutex_timedlock(mutex, time);
  return timed_lock(mutex, CLOCK_REALTIME, time, "pthread_mutex_timedlock");
}

int routed::pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock, const timespec* time) noexcept {
  if (!current_fiber()) return real::pthread_mutex_clocklock(mutex, clock, time);
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  return timed_lock(mutex, clock, time, "pthread_mutex_clocklock");
}

int routed::pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  return unlock_mutex(mutex);
}

int routed::pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  // Spinning would keep the holder from running if that is a fiber of this carrier.
  if (!current_fiber()) return real::pthread_spin_lock(lock);
  while (::pthread_spin_trylock(lock) != 0) Carrier::current()->yield();
  return 0;
}

}  // namespace weft::engine::interpose
