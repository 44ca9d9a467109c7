#pragma once
// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_THREADS_CALLS(X) \
  X(pthread_create)           \
  X(pthread_join)             \
  X(pthread_tryjoin_np)       \
  X(pthread_timedjoin_np)     \
  X(pthread_clockjoin_np)     \
  X(pthread_detach)           \
  X(pthread_self)             \
  X(pthread_cancel)           \
  X(pthread_setcancelstate)   \
  X(pthread_setcanceltype)    \
  X(pthread_testcancel)       \
  X(pthread_getattr_np)       \
  X(pthread_setname_np)       \
  X(pthread_getname_np)       \
  X(pthread_getcpuclockid)    \
  X(pthread_getaffinity_np)   \
  X(pthread_setaffinity_np)   \
  X(pthread_getschedparam)    \
  X(pthread_setschedparam)    \
  X(pthread_setschedprio)     \
  X(pthread_key_create)       \
  X(pthread_key_delete)       \
  X(pthread_getspecific)      \
  X(pthread_setspecific)      \
  X(gettid)                   \
  X(thrd_create)              \
  X(thrd_join)                \
  X(thrd_detach)
#define WEFT_THREADS_ALIASES(Y)                 \
  Y(__pthread_key_create, pthread_key_create)   \
  Y(__pthread_getspecific, pthread_getspecific) \
  Y(__pthread_setspecific, pthread_setspecific) \
  Y(thrd_current, pthread_self)                 \
  Y(tss_create, pthread_key_create)             \
  Y(tss_delete, pthread_key_delete)             \
  Y(tss_get, pthread_getspecific)               \
  Y(tss_set, pthread_setspecific)
