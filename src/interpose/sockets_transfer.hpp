// What the routed socket calls have in common.
#pragma once

#include <sys/socket.h>

#include <cstddef>

namespace weft::engine::interpose {

/// sendmsg(2) as a fiber, once an attempt has failed with `-EAGAIN` or sent only `result` bytes of `message`.
/// Returns what the system call would: a count or a negated errno.
long finish_send(int fd, const msghdr& message, int flags, long result, const char* call) noexcept;

/// sendmsg(2) and recvmsg(2) as a fiber, likewise.
long send_message(int fd, const msghdr& message, int flags, const char* call) noexcept;
long receive_message(int fd, msghdr& message, int flags, const char* call) noexcept;

}  // namespace weft::engine::interpose
