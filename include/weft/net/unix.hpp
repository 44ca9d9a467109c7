// Unix sockets: streams between processes of this machine, which carry descriptors as well.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "weft/net/stream.hpp"

namespace weft::net {

/// Who is at the other end, as of when it connected, or listened.
struct PeerCredentials {
  pid_t process;
  uid_t user;
  gid_t group;
};

/// A connection between processes of this machine, from connect(), pair() or UnixListener::accept(). What it
/// does, what ends its waits, and what it throws, stands with Stream and Socket; the calls that carry
/// descriptors are as its others. Any number of fibers and threads may use one at the same time; nobody else
/// may while it is moved, assigned to, released or destroyed.
class UnixStream : public Stream {
 public:
  UnixStream() noexcept = default;

  /// A cancellation point; waits while the listener's queue is full. `timeout` 0: none. std::system_error:
  /// ENOENT, ECONNREFUSED (nobody listens), EACCES; Timeout.
  static UnixStream connect(const Address& address,
                            std::chrono::nanoseconds timeout = std::chrono::nanoseconds(0)) {
    size_t connected = 0;
    const detail::IoResult result = detail::connect_stream(&address, 1, {nullptr, 0, false},
                                                           detail::deadline_of(timeout.count()), &connected);
    return UnixStream(detail::opened(result, "connect to", [&] { return address.to_string(); }));
  }

  /// Two that are connected to each other.
  static std::pair<UnixStream, UnixStream> pair() {
    int fds[2];
    detail::checked(detail::open_pair(fds), "UnixStream::pair");
    return {UnixStream(fds[0]), UnixStream(fds[1])};
  }

  /// See Stream::adopt().
  static UnixStream adopt(int fd) {
    detail::checked(detail::adopt_socket(fd, SOCK_STREAM), "UnixStream::adopt");
    return UnixStream(fd);
  }

  PeerCredentials peer_credentials() const {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    detail::checked(descriptor_.option(SOL_SOCKET, SO_PEERCRED, &credentials, &size), "peer_credentials");
    return {credentials.pid, credentials.uid, credentials.gid};
  }

  /// As many as Linux lets one message carry.
  static constexpr size_t kMaxDescriptors = 253;

  /// Sends copies of `descriptors` with the first byte of `bytes`, and as much of those as the kernel takes
  /// at once: returns how much, at least 1. As write_some() but for that. std::invalid_argument: no bytes, or
  /// more than kMaxDescriptors.
  size_t send_descriptors(Bytes bytes, std::span<const int> descriptors) {
    if (bytes.size() == 0 || descriptors.size() > kMaxDescriptors)
      throw std::invalid_argument("send_descriptors: at least 1 byte, at most 253 descriptors");
    Control control;
    iovec vector{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message = message_of({&vector, 1});
    if (!descriptors.empty()) {
      message.msg_control = control.bytes;
      message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      control.header.cmsg_level = SOL_SOCKET;
      control.header.cmsg_type = SCM_RIGHTS;
      control.header.cmsg_len = CMSG_LEN(descriptors.size_bytes());
      memcpy(CMSG_DATA(&control.header), descriptors.data(), descriptors.size_bytes());
    }
    return size_of(descriptor_.send_message(message, write_deadline(), "send_descriptors"), "write");
  }

  struct Received {
    size_t size;                               ///< bytes; 0: the end
    std::vector<OwnedDescriptor> descriptors;  ///< close-on-exec
    bool truncated;                            ///< there were more, which the kernel has closed
  };
  /// As read_some(), and takes the descriptors that came with the bytes. `limit`: how many at most.
  Received receive_descriptors(MutableBytes buffer, size_t limit = kMaxDescriptors) {
    Received received{};
    limit = std::min(limit, kMaxDescriptors);
    received.descriptors.reserve(limit);  // from here on nothing that came can be lost
    Control control;
    iovec vector{buffer.data(), buffer.size()};
    msghdr message = message_of({&vector, 1});
    message.msg_control = control.bytes;
    message.msg_controllen = limit ? CMSG_LEN(limit * sizeof(int)) : 0;
    received.size = size_of(
        descriptor_.receive_message(message, MSG_CMSG_CLOEXEC, read_deadline(), "receive_descriptors"),
        "read");
    received.truncated = message.msg_flags & MSG_CTRUNC;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd;
        memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
        received.descriptors.emplace_back(fd);
      }
    }
    return received;
  }

 private:
  friend class UnixListener;
  explicit UnixStream(int fd) noexcept : Stream(fd) {}

  union Control {
    cmsghdr header;
    char bytes[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
    Control() noexcept : bytes{} {}
  };
};

/// What a UnixListener is to be, as of its making.
struct UnixListenOptions {
  int backlog = 4096;           ///< net.core.somaxconn bounds it
  bool unlink_on_close = true;  ///< remove the path, unless it is another file by then
  int permissions = -1;         ///< of the path, as 0600; who may write may connect. -1: as the umask has it
};

/// A Unix socket that others connect to, at a path or an abstract name. Making one does not wait; accept()
/// suspends the fiber, or blocks a native thread, and is a cancellation point. Any number of fibers and
/// threads may accept at the same time: each connection goes to one of them. close(), from anywhere, ends
/// them all with EBADF. Errors are std::system_error with the errno. See Socket for what moving and
/// destroying it ask for.
///
/// The path is removed when it is closed or destroyed, unless the options say otherwise, but not when it is
/// released.
class UnixListener : public Socket {
 public:
  UnixListener() noexcept = default;

  /// Never waits. std::system_error: EADDRINUSE (a path that exists is never replaced), ENOENT, EACCES.
  explicit UnixListener(const Address& address, const UnixListenOptions& options = {})
      : UnixListener(address, options, {}) {}
  UnixListener(UnixListener&&) noexcept = default;
  UnixListener& operator=(UnixListener&& other) noexcept {
    if (this == &other) return *this;
    close();
    Socket::operator=(std::move(other));
    path_ = other.path_;
    file_ = other.file_;
    return *this;
  }
  ~UnixListener() { close(); }

  /// As Socket::close(), and unlinks.
  void close() noexcept {
    const bool open = is_open();
    Socket::close();
    if (open && path_) detail::unlink_socket(path_, file_);
  }

  /// As TcpListener::accept().
  UnixStream accept() { return UnixStream(detail::accept(descriptor_, detail::kNever, "accept")); }
  /// None if nobody comes within `span`; with zero or less, if nobody waits now.
  template <typename Rep, typename Period>
  std::optional<UnixStream> accept_for(std::chrono::duration<Rep, Period> span) {
    const int fd = detail::accept(descriptor_, detail::deadline_after(span), "accept_for");
    return fd < 0 ? std::nullopt : std::optional(UnixStream(fd));
  }

 private:
  UnixListener(const Address& address, const UnixListenOptions& options, detail::FileIdentity file)
      : Socket(listen(address, options, file)) {
    file_ = file;
    if (options.unlink_on_close && !address.is_abstract()) path_ = address;
  }
  static int listen(const Address& address, const UnixListenOptions& options, detail::FileIdentity& file) {
    const detail::ListenRequest request{options.backlog, false, false, false, -1, options.permissions};
    return detail::opened(detail::listen_stream(address, request, &file), "listen at",
                          [&] { return address.to_string(); });
  }

  Address path_;  // to unlink; else none
  detail::FileIdentity file_;
};

}  // namespace weft::net
