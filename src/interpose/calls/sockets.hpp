#pragma once
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

// Declared by libc's headers only where they are fortified.
extern "C" {
ssize_t __recv_chk(int fd, void* buffer, size_t length, size_t buffer_size, int flags);
ssize_t __recvfrom_chk(int fd, void* __restrict buffer, size_t length, size_t buffer_size, int flags,
                       struct sockaddr* __restrict address, socklen_t* __restrict address_length);
}

// X(call), Y(symbol, call): see calls.hpp.
#define WEFT_SOCKETS_CALLS(X) \
  X(recv)                     \
  X(recvfrom)                 \
  X(recvmsg)                  \
  X(recvmmsg)                 \
  X(__recv_chk)               \
  X(__recvfrom_chk)           \
  X(send)                     \
  X(sendto)                   \
  X(sendmsg)                  \
  X(sendmmsg)                 \
  X(accept)                   \
  X(accept4)                  \
  X(connect)                  \
  X(setsockopt)               \
  X(sendfile)                 \
  X(splice)                   \
  X(tee)                      \
  X(vmsplice)
#define WEFT_SOCKETS_ALIASES(Y) \
  Y(__send, send)               \
  Y(__connect, connect)         \
  Y(sendfile64, sendfile)
