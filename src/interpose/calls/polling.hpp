#pragma once
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

// Declared by libc's headers only where they are fortified.
extern "C" {
int __poll_chk(struct pollfd* descriptors, nfds_t count, int timeout, size_t size);
int __ppoll_chk(struct pollfd* descriptors, nfds_t count, const struct timespec* timeout,
                const __sigset_t* mask, size_t size);
}

// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_POLLING_CALLS(X) \
  X(poll)                     \
  X(ppoll)                    \
  X(__poll_chk)               \
  X(__ppoll_chk)              \
  X(select)                   \
  X(pselect)                  \
  X(epoll_wait)               \
  X(epoll_pwait)              \
  X(epoll_pwait2)
#define WEFT_POLLING_ALIASES(Y) \
  Y(__poll, poll)               \
  Y(__select, select)
