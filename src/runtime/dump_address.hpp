// The socket that `weft dump` connects to.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdio>
#include <string_view>

namespace weft::engine::dump {

/// What the client sends first: which form of the dump it wants. Anything else means the grouped one.
inline constexpr std::string_view kRequestGrouped = "grouped\n", kRequestAll = "all\n";

/// An abstract name, so that nothing is left behind in the file system. Returns its length.
inline socklen_t socket_address(pid_t pid, sockaddr_un& address) noexcept {
  address = {};
  address.sun_family = AF_UNIX;
  const int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "weft-dump-%d", pid);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path)) + 1 + static_cast<socklen_t>(length);
}

}  // namespace weft::engine::dump
