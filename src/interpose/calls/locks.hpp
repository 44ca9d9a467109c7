#pragma once
// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_LOCKS_CALLS(X)     \
  X(sem_wait)                   \
  X(sem_timedwait)              \
  X(sem_clockwait)              \
  X(sem_post)                   \
  X(pthread_mutex_lock)         \
  X(pthread_mutex_trylock)      \
  X(pthread_mutex_timedlock)    \
  X(pthread_mutex_clocklock)    \
  X(pthread_mutex_unlock)       \
  X(pthread_cond_wait)          \
  X(pthread_cond_timedwait)     \
  X(pthread_cond_clockwait)     \
  X(pthread_cond_signal)        \
  X(pthread_cond_broadcast)     \
  X(pthread_rwlock_rdlock)      \
  X(pthread_rwlock_timedrdlock) \
  X(pthread_rwlock_clockrdlock) \
  X(pthread_rwlock_wrlock)      \
  X(pthread_rwlock_timedwrlock) \
  X(pthread_rwlock_clockwrlock) \
  X(pthread_rwlock_unlock)      \
  X(pthread_barrier_init)       \
  X(pthread_barrier_destroy)    \
  X(pthread_barrier_wait)       \
  X(pthread_spin_lock)          \
  X(pthread_once)               \
  X(mtx_trylock)                \
  X(mtx_timedlock)              \
  X(cnd_timedwait)              \
  X(syscall)
#define WEFT_LOCKS_ALIASES(Y)                       \
  Y(mtx_lock, pthread_mutex_lock)                   \
  Y(mtx_unlock, pthread_mutex_unlock)               \
  Y(cnd_wait, pthread_cond_wait)                    \
  Y(cnd_signal, pthread_cond_signal)                \
  Y(cnd_broadcast, pthread_cond_broadcast)          \
  Y(call_once, pthread_once)                        \
  Y(__pthread_mutex_lock, pthread_mutex_lock)       \
  Y(__pthread_mutex_trylock, pthread_mutex_trylock) \
  Y(__pthread_mutex_unlock, pthread_mutex_unlock)   \
  Y(__pthread_once, pthread_once)
