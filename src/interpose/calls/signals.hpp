#pragma once
#include <csetjmp>
#include <csignal>

// What libc exports and its headers hide, or declare under another symbol's name.
extern "C" {
int __sigpause(int number_or_mask, int is_number);
int __xpg_sigpause(int number);
[[noreturn]] void __longjmp_chk(__jmp_buf_tag* target, int value) noexcept;
}

// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_SIGNALS_CALLS(X) \
  X(sigaction)                \
  X(signal)                   \
  X(sysv_signal)              \
  X(sigset)                   \
  X(siginterrupt)             \
  X(sigprocmask)              \
  X(pthread_sigmask)          \
  X(sighold)                  \
  X(sigrelse)                 \
  X(sigblock)                 \
  X(sigsetmask)               \
  X(sigpending)               \
  X(sigsuspend)               \
  X(pause)                    \
  X(sigpause)                 \
  X(__sigpause)               \
  X(__xpg_sigpause)           \
  X(sigwait)                  \
  X(sigwaitinfo)              \
  X(sigtimedwait)             \
  X(pthread_kill)             \
  X(pthread_sigqueue)         \
  X(raise)                    \
  X(longjmp)                  \
  X(_longjmp)                 \
  X(siglongjmp)               \
  X(__longjmp_chk)            \
  X(_Fork)
#define WEFT_SIGNALS_ALIASES(Y) \
  Y(gsignal, raise)             \
  Y(bsd_signal, signal)         \
  Y(ssignal, signal)            \
  Y(__sysv_signal, sysv_signal) \
  Y(__sigaction, sigaction)     \
  Y(__sigsuspend, sigsuspend)
