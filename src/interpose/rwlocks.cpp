// Read-write locks, barriers and once: libc's objects stay the truth where they have a call that only tries;
// where they do not, what waits is kept here.
#include "interpose/calls.hpp"
#include "interpose/support.hpp"
#include "poll/offload_pool.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

using TryLock = int (*)(pthread_rwlock_t*);

// `attempt` is libc's tryrdlock or trywrlock. Returns 0 or an errno. Uninterruptible, like libc's.
int lock(pthread_rwlock_t* rwlock, TryLock attempt, Nanos deadline, const char* call) noexcept {
  ErrnoKeeper keeper;
  int error = attempt(rwlock);
  uint8_t flags = kUninterruptible;
  while (error == EBUSY) {
    const Wake wake =
        ParkingLot::instance().park(rwlock, deadline, flags, {WaitKind::kLock, call, rwlock}, [&]() noexcept {
          error = attempt(rwlock);
          return error == EBUSY;
        });
    if (error != EBUSY) break;
    error = attempt(rwlock);
    if (error == EBUSY && wake == Wake::kTimeout) return ETIMEDOUT;
    flags = kFrontOfQueue;
  }
  return error;
}

int timed(pthread_rwlock_t* rwlock, TryLock attempt, clockid_t clock, const timespec* time,
          const char* call) noexcept {
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  if (!valid(*time)) return EINVAL;
  return lock(rwlock, attempt, monotonic_deadline(clock, *time), call);
}

// Barriers that were initialised through us. Others are waited for by the offload pool.
struct Barrier {
  const pthread_barrier_t* address = nullptr;
  unsigned count = 0;    // to a round
  unsigned arrived = 0;  // in the present round
  unsigned waiting = 0;  // who have not yet left a finished round
  std::atomic<unsigned> round{0};
  Barrier* next = nullptr;
};
constinit FutexLock g_barriers_lock;
constinit Barrier* g_barriers = nullptr;

Barrier** find_barrier(const pthread_barrier_t* address) noexcept {
  Barrier** link = &g_barriers;
  while (*link && (*link)->address != address) link = &(*link)->next;
  return link;
}

// Initialisations under way on fibers or native threads, by their control word.
constexpr int kOnceSlots = 256;
constinit std::atomic<const void*> g_running_once[kOnceSlots];

std::atomic<const void*>* once_slot(const void* control) noexcept {
  for (auto& slot : g_running_once)
    if (slot.load(std::memory_order_acquire) == control) return &slot;
  return nullptr;
}

}  // namespace

int routed::pthread_rwlock_rdlock(pthread_rwlock_t* rwlock) noexcept {
  if (!current_fiber()) return real::pthread_rwlock_rdlock(rwlock);
  return lock(rwlock, &::pthread_rwlock_tryrdlock, kNever, "pthread_rwlock_rdlock");
}

int routed::pthread_rwlock_timedrdlock(pthread_rwlock_t* rwlock, const timespec* time) noexcept {
  if (!current_fiber()) return real::pthread_rwlock_timedrdlock(rwlock, time);
  return timed(rwlock, &::pthread_rwlock_tryrdlock, CLOCK_REALTIME, time, "pthread_rwlock_timedrdlock");
}

int routed::pthread_rwlock_clockrdlock(pthread_rwlock_t* rwlock, clockid_t clock,
                                       const timespec* time) noexcept {
  if (!current_fiber()) return real::pthread_rwlock_clockrdlock(rwlock, clock, time);
  return timed(rwlock, &::pthread_rwlock_tryrdlock, clock, time, "pthread_rwlock_clockrdlock");
}

int routed::pthread_rwlock_wrlock(pthread_rwlock_t* rwlock) noexcept {
  if (!current_fiber()) return real::pthread_rwlock_wrlock(rwlock);
  return lock(rwlock, &::pthread_rwlock_trywrlock, kNever, "pthread_rwlock_wrlock");
}

int routed::pthread_rwlock_timedwrlock(pthread_rwlock_t* rwlock, const timespec* time) noexcept {
  if (!current_fiber()) return real::pthread_rwlock_timedwrlock(rwlock, time);
  return timed(rwlock, &::pthread_rwlock_trywrlock, CLOCK_REALTIME, time, "pthread_rwlock_timedwrlock");
}

int routed::pthread_rwlock_clockwrlock(pthread_rwlock_t* rwlock, clockid_t clock,
                                       const timespec* time) noexcept {
  if (!current_fiber()) return real::pthread_rwlock_clockwrlock(rwlock, clock, time);
  return timed(rwlock, &::pthread_rwlock_trywrlock, clock, time, "pthread_rwlock_clockwrlock");
}

int routed::pthread_rwlock_unlock(pthread_rwlock_t* rwlock) noexcept {
  const int error = real::pthread_rwlock_unlock(rwlock);
  // Readers and writers wait at one address: all try again, and the losers keep their places.
  if (Runtime::get()) ParkingLot::instance().wake_all(rwlock);
  return error;
}

int routed::pthread_barrier_init(pthread_barrier_t* barrier, const pthread_barrierattr_t* attributes,
                                 unsigned count) noexcept {
  const int error = real::pthread_barrier_init(barrier, attributes, count);
  int shared = PTHREAD_PROCESS_PRIVATE;
  if (attributes) pthread_barrierattr_getpshared(attributes, &shared);
  if (error || shared != PTHREAD_PROCESS_PRIVATE) return error;
  auto* ours = new (std::nothrow) Barrier;
  if (!ours) return 0;
  ours->address = barrier;
  ours->count = count;
  Guard guard(g_barriers_lock);
  ours->next = g_barriers;
  g_barriers = ours;
  return 0;
}

int routed::pthread_barrier_wait(pthread_barrier_t* barrier) noexcept {
  ErrnoKeeper keeper;
  g_barriers_lock.lock();
  Barrier* ours = *find_barrier(barrier);
  if (!ours) {
    g_barriers_lock.unlock();
    if (!current_fiber()) return real::pthread_barrier_wait(barrier);
    int result = 0;
    OffloadPool::instance().run("pthread_barrier_wait",
                                [&]() noexcept { result = real::pthread_barrier_wait(barrier); });
    return result;
  }
  const unsigned round = ours->round.load(std::memory_order_relaxed);
  if (++ours->arrived == ours->count) {
    ours->arrived = 0;
    ours->round.store(round + 1, std::memory_order_release);
    g_barriers_lock.unlock();
    ParkingLot::instance().wake_all(&ours->round);
    return PTHREAD_BARRIER_SERIAL_THREAD;
  }
  ++ours->waiting;
  g_barriers_lock.unlock();
  const auto unfinished = [&]() noexcept { return ours->round.load(std::memory_order_acquire) == round; };
  while (unfinished())
    ParkingLot::instance().park(&ours->round, kNever, kUninterruptible,
                                {WaitKind::kLock, "pthread_barrier_wait", barrier}, unfinished);
  Guard guard(g_barriers_lock);
  if (--ours->waiting == 0) ParkingLot::instance().wake_all(&ours->waiting);
  return 0;
}

int routed::pthread_barrier_destroy(pthread_barrier_t* barrier) noexcept {
  Barrier* ours = nullptr;
  {
    Guard guard(g_barriers_lock);
    Barrier** link = find_barrier(barrier);
    if ((ours = *link)) *link = ours->next;
  }
  if (ours) {
    // As in libc, destroying waits for those who are just leaving.
    const auto busy = [&]() noexcept { return __atomic_load_n(&ours->waiting, __ATOMIC_ACQUIRE) != 0; };
    while (busy())
      ParkingLot::instance().park(&ours->waiting, kNever, kUninterruptible,
                                  {WaitKind::kLock, "pthread_barrier_destroy", barrier}, busy);
    g_barriers_lock.lock();  // the last to leave may still hold it
    g_barriers_lock.unlock();
    delete ours;
  }
  return real::pthread_barrier_destroy(barrier);
}

int routed::pthread_once(pthread_once_t* control, void (*initialise)()) noexcept {
  constexpr int kDone = 2;  // __PTHREAD_ONCE_DONE
  if (__atomic_load_n(control, __ATOMIC_ACQUIRE) == kDone) return 0;
  if (!Runtime::get()) return real::pthread_once(control, initialise);
  // libc would wait in the kernel for an initialisation that is under way: on the carrier that is to finish
  // it.
  const auto running = [&]() noexcept { return once_slot(control) != nullptr; };
  while (running())
    ParkingLot::instance().park(control, kNever, kUninterruptible, {WaitKind::kLock, "pthread_once", control},
                                running);
  if (__atomic_load_n(control, __ATOMIC_ACQUIRE) == kDone) return 0;
  std::atomic<const void*>* mine = nullptr;
  for (auto& slot : g_running_once) {
    const void* empty = nullptr;
    if (slot.compare_exchange_strong(empty, control)) {
      mine = &slot;
      break;
    }
  }
  const int error = real::pthread_once(control, initialise);
  if (mine) mine->store(nullptr, std::memory_order_release);
  ParkingLot::instance().wake_all(control);
  return error;
}

}  // namespace weft::engine::interpose
