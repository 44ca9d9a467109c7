// What a routed call must know of a descriptor before it parks on it.
#pragma once

#include <sys/socket.h>

#include "fiber/clock.hpp"

namespace weft::engine::interpose {

/// Whether the description behind `fd` has O_NONBLOCK: 1 or 0, or a negated errno.
int is_nonblocking(int fd) noexcept;

/// An integer option of SOL_SOCKET (SO_TYPE...), or a negated errno.
int socket_option(int fd, int option) noexcept;

/// How long a receive (POLLIN) or send (POLLOUT) on socket `fd` may block, as SO_RCVTIMEO or SO_SNDTIMEO
/// says; kNever without limit. Asks the kernel only if some socket of the process may have such a limit.
Nanos socket_time_limit(int fd, short events) noexcept;

/// SO_RCVLOWAT of socket `fd`. Asks the kernel only if some socket of the process may have that option.
size_t receive_low_water(int fd) noexcept;

/// The options above are known to be in use from now on. To be called before they are set.
void note_socket_option(int level, int option) noexcept;

/// Sockets that came with a message bring the options that other processes gave them.
void note_received_sockets(const msghdr& message) noexcept;

/// True if `message` brought descriptors.
bool has_descriptors(const msghdr& message) noexcept;

}  // namespace weft::engine::interpose
