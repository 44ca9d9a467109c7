#pragma once
// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_SIGNALS_CALLS(X) \
  X(sigaction)                \
  X(signal)                   \
  X(sysv_signal)              \
  X(sigset)                   \
  X(siginterrupt)             \
  X(sigprocmask)              \
  X(pthread_sigmask)          \
  X(sigsuspend)               \
  X(pause)                    \
  X(sigwait)                  \
  X(sigwaitinfo)              \
  X(sigtimedwait)             \
  X(pthread_kill)             \
  X(_Fork)
#define WEFT_SIGNALS_ALIASES(Y) \
  Y(bsd_signal, signal)         \
  Y(ssignal, signal)            \
  Y(__sysv_signal, sysv_signal) \
  Y(__sigaction, sigaction)     \
  Y(__sigsuspend, sigsuspend)
