#pragma once
// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_SLEEPING_CALLS(X) \
  X(nanosleep)                 \
  X(clock_nanosleep)           \
  X(usleep)                    \
  X(sleep)                     \
  X(sched_yield)               \
  X(thrd_sleep)                \
  X(thrd_yield)
#define WEFT_SLEEPING_ALIASES(Y) Y(pthread_yield, sched_yield)
