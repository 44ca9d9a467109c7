// TCP: connecting, and being connected to.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "weft/net/resolve.hpp"
#include "weft/net/stream.hpp"

namespace weft::net {

/// How TcpStream::connect() goes about it.
struct ConnectOptions {
  /// For all of it, looking the name up included; 0: none, but the kernel's for each address (about two
  /// minutes).
  std::chrono::nanoseconds timeout{0};
  /// What to connect from; none: whatever leads there. Addresses of another family are then no use.
  Address local = {};
  /// See Stream::set_no_delay().
  bool no_delay = true;
  /// How long an address may leave us without an answer before the next is tried as well.
  std::chrono::nanoseconds attempt_delay = std::chrono::milliseconds(250);
  /// AF_INET or AF_INET6: only such addresses of a name.
  int family = AF_UNSPEC;
};

/// A TCP connection, from connect() or TcpListener::accept(). What it does, what ends its waits, and what it
/// throws, stands with Stream and Socket. Any number of fibers and threads may
/// use one at the same time; nobody else may while it is moved, assigned to, released or destroyed.
class TcpStream : public Stream {
 public:
  TcpStream() noexcept = default;

  /// A cancellation point. Throws std::system_error (ECONNREFUSED, ENETUNREACH, ...), Timeout after
  /// options.timeout. Any thread, as all that follow.
  static TcpStream connect(const Address& address, const ConnectOptions& options = {}) {
    return connect(std::span(&address, 1), address.to_string(), options,
                   detail::deadline_of(options.timeout.count()));
  }
  /// Whichever answers first. They are tried in turn, IPv6 and IPv4 alternating, one more every
  /// options.attempt_delay or as soon as one has failed (RFC 8305); 64 at most. Where all fail, the error is
  /// that of the first which says more than that there is no way to it.
  static TcpStream connect(std::span<const Address> addresses, const ConnectOptions& options = {}) {
    return connect(addresses, addresses.empty() ? "no address" : addresses.front().to_string(), options,
                   detail::deadline_of(options.timeout.count()));
  }
  /// The same for the addresses of a name, or numbers. What resolve() throws besides.
  static TcpStream connect(std::string_view host, std::string_view service,
                           const ConnectOptions& options = {}) {
    const detail::Nanos deadline = detail::deadline_of(options.timeout.count());
    ResolveOptions which;
    which.family = options.family;
    const auto addresses = detail::resolve_until(host, service, which, deadline);
    return connect(addresses, std::string(host) + ":" + std::string(service), options, deadline);
  }
  static TcpStream connect(std::string_view host, uint16_t port, const ConnectOptions& options = {}) {
    return connect(host, std::string_view(std::to_string(port)), options);
  }

  /// See Stream::adopt().
  static TcpStream adopt(int fd) {
    detail::checked(detail::adopt_socket(fd, SOCK_STREAM), "TcpStream::adopt");
    return TcpStream(fd);
  }

 private:
  friend class TcpListener;
  explicit TcpStream(int fd) noexcept : Stream(fd) {}

  static TcpStream connect(std::span<const Address> addresses, const std::string& name,
                           const ConnectOptions& options, detail::Nanos deadline) {
    size_t connected = 0;
    const detail::ConnectRequest request{&options.local, options.attempt_delay.count(), options.no_delay};
    const detail::IoResult result =
        detail::connect_stream(addresses.data(), addresses.size(), request, deadline, &connected);
    return TcpStream(detail::opened(result, "connect to", [&] { return name; }));
  }
};

/// What a TcpListener is to be, as of its making.
struct ListenOptions {
  int backlog = 4096;         ///< connections that wait to be accepted; net.core.somaxconn bounds it
  bool reuse_address = true;  ///< bind although former connections linger
  bool reuse_port = false;    ///< several listeners share the port
  bool no_delay = true;       ///< of what is accepted: see Stream::set_no_delay()
  int v6_only = -1;           ///< IPv6: 1: no IPv4, 0: that too; -1: as the system has it
};

/// A TCP socket that others connect to. Making one does not wait; accept() suspends the fiber, or blocks a
/// native thread, and is a cancellation point. Any number of fibers and threads may accept at the same time:
/// each connection goes to one of them. close(), from anywhere, ends them all with EBADF. Errors are
/// std::system_error with the errno. See Socket for what moving and destroying it ask for.
class TcpListener : public Socket {
 public:
  TcpListener() noexcept = default;

  /// Never waits. std::system_error: EADDRINUSE, EACCES, EADDRNOTAVAIL, EMFILE.
  explicit TcpListener(const Address& address, const ListenOptions& options = {})
      : Socket(listen(address, options)) {}

  /// Waits for a connection. A cancellation point; nothing is lost by that. std::system_error: EBADF: the
  /// listener was closed; EMFILE, ENFILE, ENOMEM: the connection stays in the queue, so let others close
  /// something before the next try. Connections that failed meanwhile are passed over. Any number of fibers
  /// and threads.
  TcpStream accept() { return TcpStream(detail::accept(descriptor_, detail::kNever, "accept")); }
  /// And says who it is.
  TcpStream accept(Address& peer) {
    return TcpStream(detail::accept(descriptor_, detail::kNever, "accept", &peer));
  }
  /// None if nobody comes within `span`; with zero or less, if nobody waits now.
  template <typename Rep, typename Period>
  std::optional<TcpStream> accept_for(std::chrono::duration<Rep, Period> span) {
    const int fd = detail::accept(descriptor_, detail::deadline_after(span), "accept_for");
    return fd < 0 ? std::nullopt : std::optional(TcpStream(fd));
  }

  /// See Stream::adopt(); for a socket that listens.
  static TcpListener adopt(int fd) {
    detail::checked(detail::adopt_socket(fd, SOCK_STREAM), "TcpListener::adopt");
    TcpListener listener;
    listener.descriptor_ = detail::Descriptor(fd);
    return listener;
  }

 private:
  static int listen(const Address& address, const ListenOptions& options) {
    const detail::ListenRequest request{options.backlog,  options.reuse_address, options.reuse_port,
                                        options.no_delay, options.v6_only,       -1};
    return detail::opened(detail::listen_stream(address, request, nullptr), "listen at",
                          [&] { return address.to_string(); });
  }
};

}  // namespace weft::net
