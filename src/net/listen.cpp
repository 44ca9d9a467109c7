// Sockets that wait for others: listeners, datagrams, pairs.
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

#include <cerrno>

#include "fiber/sys.hpp"
#include "net/wait.hpp"
#include "weft/net/detail.hpp"

namespace weft::net::detail {

namespace sys = engine::sys;

namespace {

constexpr int kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;

long switch_on(int fd, int level, int option, int value = 1) noexcept {
  return sys::call(SYS_setsockopt, fd, level, option, &value, sizeof value);
}

// A NUL-terminated path; "" where the address has none.
struct Path {
  char text[sizeof(sockaddr_un::sun_path) + 1] = "";
  explicit Path(const Address& address) noexcept {
    if (!address.is_abstract()) address.unix_name().copy(text, sizeof text - 1);
  }
  explicit operator bool() const noexcept { return *text; }
};

bool identify(const Path& path, FileIdentity& file) noexcept {
  struct stat status;
  if (sys::call(SYS_newfstatat, AT_FDCWD, path.text, &status, AT_SYMLINK_NOFOLLOW) < 0) return false;
  file = {status.st_dev, status.st_ino};
  return S_ISSOCK(status.st_mode);
}

long prepare(int fd, const Address& address, bool reuse_address, bool reuse_port, int v6_only) noexcept {
  long error = 0;
  if (!address.is_ip()) return error;
  if (reuse_address) error = switch_on(fd, SOL_SOCKET, SO_REUSEADDR);
  if (error == 0 && reuse_port) error = switch_on(fd, SOL_SOCKET, SO_REUSEPORT);
  if (error == 0 && v6_only >= 0 && address.family() == AF_INET6)
    error = switch_on(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6_only);
  return error;
}

}  // namespace

IoResult listen_stream(const Address& address, const ListenRequest& request, FileIdentity* file) noexcept {
  const long opened = sys::call(SYS_socket, address.family(), SOCK_STREAM | kFlags, 0);
  if (opened < 0) return {opened};
  const int fd = static_cast<int>(opened);
  const Path path(address);
  bool bound = false;
  long error = prepare(fd, address, request.reuse_address, request.reuse_port, request.v6_only);
  if (error == 0 && request.no_delay && address.is_ip()) error = switch_on(fd, IPPROTO_TCP, TCP_NODELAY);
  if (error == 0) {
    error = sys::call(SYS_bind, fd, address.data(), address.size());
    bound = error == 0;
  }
  if (bound && path) {
    if (file) identify(path, *file);
    // Before listen(2) nobody can connect, so nobody gets in by the permissions that the umask gave.
    if (request.permissions >= 0)
      error = sys::call(SYS_fchmodat, AT_FDCWD, path.text, static_cast<mode_t>(request.permissions));
  }
  if (error == 0) error = sys::call(SYS_listen, fd, request.backlog);
  if (error == 0) return {fd};
  if (bound && path) sys::call(SYS_unlinkat, AT_FDCWD, path.text, 0);
  close_now(fd);
  return {error};
}

void unlink_socket(const Address& address, const FileIdentity& file) noexcept {
  const Path path(address);
  FileIdentity present;
  if (path && identify(path, present) && present.device == file.device && present.inode == file.inode)
    sys::call(SYS_unlinkat, AT_FDCWD, path.text, 0);
}

IoResult open_datagram(int family, const Address& address, const DatagramRequest& request) noexcept {
  if (address) family = address.family();
  // Where the receiver's queue is full, a Unix datagram socket claims to be writable all the same.
  if (family != AF_INET && family != AF_INET6) return {-EAFNOSUPPORT};
  const long opened = sys::call(SYS_socket, family, SOCK_DGRAM | kFlags, 0);
  if (opened < 0 || !address) return {opened};
  const int fd = static_cast<int>(opened);
  long error = prepare(fd, address, request.reuse_address, request.reuse_port, request.v6_only);
  if (error == 0) error = sys::call(SYS_bind, fd, address.data(), address.size());
  if (error == 0) return {fd};
  close_now(fd);
  return {error};
}

int open_pair(int (&fds)[2]) noexcept {
  return static_cast<int>(sys::call(SYS_socketpair, AF_UNIX, SOCK_STREAM | kFlags, 0, fds));
}

int adopt_socket(int fd, int type) noexcept {
  int present = 0;
  socklen_t size = sizeof present;
  long error = sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &present, &size);
  if (error == 0 && present != type) error = -EPROTOTYPE;
  if (error < 0) return static_cast<int>(error);
  const long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  if (flags < 0 || flags & O_NONBLOCK) return flags < 0 ? static_cast<int>(flags) : 0;
  return static_cast<int>(sys::call(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK));
}

}  // namespace weft::net::detail
