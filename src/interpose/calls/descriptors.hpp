#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <unistd.h>

#include <cstdio>

// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_DESCRIPTORS_CALLS(X) \
  X(close)                        \
  X(dup2)                         \
  X(dup3)                         \
  X(close_range)                  \
  X(closefrom)                    \
  X(fclose)                       \
  X(freopen)                      \
  X(closedir)                     \
  X(fcntl)                        \
  X(flock)                        \
  X(lockf)                        \
  X(mq_close)                     \
  X(mq_receive)                   \
  X(mq_timedreceive)              \
  X(mq_send)                      \
  X(mq_timedsend)                 \
  X(msgrcv)                       \
  X(msgsnd)                       \
  X(semop)                        \
  X(semtimedop)
#define WEFT_DESCRIPTORS_ALIASES(Y) \
  Y(__close, close)                 \
  Y(__dup2, dup2)                   \
  Y(_IO_fclose, fclose)             \
  Y(freopen64, freopen)             \
  Y(fcntl64, fcntl)                 \
  Y(__fcntl, fcntl)                 \
  Y(lockf64, lockf)
