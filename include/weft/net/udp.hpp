// UDP: datagrams.
#pragma once

#include "weft/net/stream.hpp"

namespace weft::net {

/// What a UdpSocket is to be when it is bound.
struct UdpOptions {
  bool reuse_address = false;
  bool reuse_port = false;  ///< several sockets share the port
  int v6_only = -1;         ///< IPv6: 1: no IPv4, 0: that too; -1: as the system has it
};

/// What came, and from whom.
struct Datagram {
  size_t size;     ///< bytes in the buffer
  bool truncated;  ///< it was longer than the buffer: the rest is lost
  size_t length;   ///< of it all
  Address from;
};

/// A UDP socket. All that sends or receives suspends the fiber, or blocks a native thread, until it can, and
/// is a cancellation point, whether it needs to wait or not; nothing was sent or taken when it throws
/// Cancelled, or Timeout (of a TimeoutScope, or of the socket's own limit). std::system_error: EMSGSIZE,
/// ENETUNREACH, EBADF (closed here); ECONNREFUSED, on a connected socket, tells of an earlier datagram that
/// nobody took. All else, but close(), never waits.
///
/// Any number of fibers and threads may use one at the same time: each datagram goes to one of them, whole.
/// See Socket for what moving and destroying it ask for.
class UdpSocket : public Socket, public TimeLimits {
 public:
  /// One that is closed.
  UdpSocket() noexcept = default;

  /// Bound to `address`, of IPv4 or IPv6 (else EAFNOSUPPORT); port 0: one that the kernel chooses. Never
  /// waits.
  static UdpSocket bind(const Address& address, const UdpOptions& options = {}) {
    return open(address.family(), address, options, "UdpSocket::bind");
  }
  /// Not bound until it sends. AF_INET or AF_INET6.
  static UdpSocket open(int family) { return open(family, Address(), {}, "UdpSocket::open"); }

  /// Only datagrams of that peer are received from now on, and send() is for it. Never waits.
  void connect(const Address& peer) {
    detail::checked(descriptor_.connect_at_once(peer.data(), peer.size()), "UdpSocket::connect");
  }
  Address peer_address() const {
    return detail::name_of([this](auto... out) { return descriptor_.peer_name(out...); }, "peer_address");
  }

  void send_to(Bytes bytes, const Address& to) {
    iovec vector{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_name = const_cast<sockaddr*>(to.data());
    message.msg_namelen = to.size();
    detail::checked(descriptor_.send_message(message, write_deadline(), "send_to"), "send_to");
  }
  /// REQUIRES: connected.
  void send(Bytes bytes) {
    detail::checked(descriptor_.send(bytes.data(), bytes.size(), write_deadline(), "send"), "send");
  }

  /// Waits for a datagram. An empty one has size 0, which is no end.
  Datagram receive_from(MutableBytes buffer) {
    Datagram datagram{};
    iovec vector{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_name = datagram.from.room();
    message.msg_namelen = Address::kRoom;
    // As an input the flag asks for the whole length.
    datagram.length = static_cast<size_t>(detail::checked(
        descriptor_.receive_message(message, MSG_TRUNC, read_deadline(), "receive_from"), "receive_from"));
    datagram.size = std::min(datagram.length, buffer.size());
    datagram.truncated = message.msg_flags & MSG_TRUNC;
    datagram.from.resize(message.msg_namelen);
    return datagram;
  }

  /// May it send to broadcast addresses?
  void set_broadcast(bool on) { set_option(SOL_SOCKET, SO_BROADCAST, on); }
  /// How many routers a datagram may pass.
  void set_ttl(int hops) {
    is_v6() ? set_option(IPPROTO_IPV6, IPV6_UNICAST_HOPS, hops) : set_option(IPPROTO_IP, IP_TTL, hops);
  }
  void set_multicast_ttl(int hops) {
    is_v6() ? set_option(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops)
            : set_option(IPPROTO_IP, IP_MULTICAST_TTL, hops);
  }
  /// Does this machine get what it sends to a group that it is in?
  void set_multicast_loop(bool on) {
    is_v6() ? set_option(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, on)
            : set_option(IPPROTO_IP, IP_MULTICAST_LOOP, on);
  }
  /// The interface by which groups are sent to, by number (if_nametoindex); 0: the system's choice.
  void set_multicast_interface(int index) {
    if (is_v6()) return set_option(IPPROTO_IPV6, IPV6_MULTICAST_IF, index);
    ip_mreqn request{};
    request.imr_ifindex = index;
    detail::checked(descriptor_.set_option(IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request),
                    "set_multicast_interface");
  }
  /// `group`: its port does not matter. `interface`: as above.
  void join_group(const Address& group, int interface = 0) { member(group, interface, true); }
  void leave_group(const Address& group, int interface = 0) { member(group, interface, false); }

 private:
  explicit UdpSocket(int fd) noexcept : Socket(fd) {}

  static UdpSocket open(int family, const Address& address, const UdpOptions& options, const char* call) {
    const detail::DatagramRequest request{options.reuse_address, options.reuse_port, options.v6_only};
    const detail::IoResult result = detail::open_datagram(family, address, request);
    const std::string what =
        result.value < 0 && address ? "cannot bind to " + address.to_string() : std::string(call);
    return UdpSocket(static_cast<int>(detail::checked(result, what.c_str())));
  }
  bool is_v6() const { return option(SOL_SOCKET, SO_DOMAIN) == AF_INET6; }
  void member(const Address& group, int interface, bool join) {
    group_req request{};
    request.gr_interface = static_cast<uint32_t>(interface);
    memcpy(&request.gr_group, group.data(), group.size());
    detail::checked(
        descriptor_.set_option(group.family() == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP,
                               join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, &request, sizeof request),
        join ? "join_group" : "leave_group");
  }
};

}  // namespace weft::net
