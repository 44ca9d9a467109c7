#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdio>
#include <cstring>

#include "fiber/sys.hpp"
#include "runtime/dump_snapshot.hpp"

namespace weft::engine::dump {

namespace {

void write_address(const sockaddr_storage& address, socklen_t length, host::TextSink& sink) noexcept {
  char text[INET6_ADDRSTRLEN + 16], host[INET6_ADDRSTRLEN];
  if (address.ss_family == AF_INET) {
    sockaddr_in in;
    memcpy(&in, &address, sizeof in);
    inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
    snprintf(text, sizeof text, "%s:%d", host, ntohs(in.sin_port));
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 in;
    memcpy(&in, &address, sizeof in);
    inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof host);
    snprintf(text, sizeof text, "[%s]:%d", host, ntohs(in.sin6_port));
  } else if (address.ss_family == AF_UNIX && length > offsetof(sockaddr_un, sun_path)) {
    sockaddr_un un;
    memcpy(&un, &address, sizeof un);
    size_t size = length - offsetof(sockaddr_un, sun_path);
    if (un.sun_path[0] == '\0')
      un.sun_path[0] = '@';
    else
      size = strnlen(un.sun_path, size);
    sink.write({un.sun_path, size});
    return;
  } else {
    sink.write("an unnamed socket");
    return;
  }
  sink.write(text);
}

bool write_socket(int fd, host::TextSink& sink) noexcept {
  int listens = 0;
  socklen_t size = sizeof listens;
  if (sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0) return false;
  sockaddr_storage own{}, peer{};
  socklen_t own_size = sizeof own, peer_size = sizeof peer;
  const bool has_own = sys::call(SYS_getsockname, fd, &own, &own_size) == 0;
  if (listens) {
    sink.write("listening on ");
    if (has_own) write_address(own, own_size, sink);
    return true;
  }
  if (sys::call(SYS_getpeername, fd, &peer, &peer_size) == 0) {
    sink.write("connected to ");
    write_address(peer, peer_size, sink);
  } else {
    sink.write("not connected");
  }
  if (has_own && own_size > sizeof own.ss_family) {
    sink.write(", from ");
    write_address(own, own_size, sink);
  }
  return true;
}

}  // namespace

void describe_descriptor(int fd, host::TextSink& sink) noexcept {
  char path[40], target[512];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const long size = sys::call(SYS_readlink, path, target, sizeof target);
  if (size < 0) {
    sink.write("closed");
    return;
  }
  const std::string_view link(target, static_cast<size_t>(size));
  sink.write(link);
  if (!link.starts_with("socket:")) return;
  sink.write(", ");
  write_socket(fd, sink);
}

}  // namespace weft::engine::dump
