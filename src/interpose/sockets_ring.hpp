// accept(2) without blocking.
#pragma once

#include <sys/socket.h>

namespace weft::engine::interpose {

/// accept4(2) that never waits, on a listener whose O_NONBLOCK must not be touched since others may share it:
/// by way of a small io_uring, one for the process, made when first used. Returns what the system call would:
/// a descriptor, or a negated errno; -EAGAIN if it would wait; kNoRing where no ring is to be had. Any
/// thread.
long accept_by_ring(int fd, sockaddr* address, socklen_t* address_length, int flags) noexcept;

inline constexpr long kNoRing = -4096;  // no errno

}  // namespace weft::engine::interpose
