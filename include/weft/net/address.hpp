// Address: where a socket is, or is to connect.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "weft/error.hpp"

namespace weft::net {

class Address;

namespace detail {
using namespace weft::detail;

/// Null, with `address` set, or what is wrong with `text`.
WEFT_API const char* parse_address(const char* text, size_t size, Address& address) noexcept;
/// Writes at most `room` characters, without a NUL; returns how many.
WEFT_API size_t format_address(const Address& address, char* text, size_t room) noexcept;
WEFT_API bool same_address(const Address& a, const Address& b) noexcept;
WEFT_API size_t hash_address(const Address& address) noexcept;
}  // namespace detail

/// An address of IPv4 or IPv6 with a port, or of a Unix socket: a path, or an abstract name. A value; nothing
/// here waits or asks a name server (see resolve.hpp).
class Address {
 public:
  /// None: family() is AF_UNSPEC, and it is false.
  Address() noexcept : bytes_{} {}
  /// Copies what a system call gave. std::invalid_argument: a family that is none of these, or a wrong size.
  Address(const sockaddr* address, socklen_t size) : Address() {
    if (!assign(address, size)) throw std::invalid_argument("weft::net::Address: unknown kind of address");
  }

  /// "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "unix:/path", "unix:@name" (abstract). The reverse of
  /// to_string(). std::invalid_argument says what is wrong.
  static Address parse(std::string_view text) {
    Address address;
    if (const char* wrong = detail::parse_address(text.data(), text.size(), address))
      throw std::invalid_argument("weft::net::Address: '" + std::string(text) + "': " + wrong);
    return address;
  }
  static std::optional<Address> try_parse(std::string_view text) noexcept {
    Address address;
    if (detail::parse_address(text.data(), text.size(), address)) return std::nullopt;
    return address;
  }

  /// `bits`: in the host's byte order, 0x7f000001 is 127.0.0.1.
  static Address ipv4(uint32_t bits, uint16_t port) noexcept {
    Address address;
    address.bytes_.v4.sin_family = AF_INET;
    address.bytes_.v4.sin_port = htons(port);
    address.bytes_.v4.sin_addr.s_addr = htonl(bits);
    address.size_ = sizeof(sockaddr_in);
    return address;
  }
  static Address ipv6(const in6_addr& bits, uint16_t port, uint32_t scope = 0) noexcept {
    Address address;
    address.bytes_.v6.sin6_family = AF_INET6;
    address.bytes_.v6.sin6_port = htons(port);
    address.bytes_.v6.sin6_addr = bits;
    address.bytes_.v6.sin6_scope_id = scope;
    address.size_ = sizeof(sockaddr_in6);
    return address;
  }
  /// This machine; port 0: one that the kernel chooses, when bound.
  static Address loopback(uint16_t port = 0) noexcept { return ipv4(INADDR_LOOPBACK, port); }
  static Address loopback_v6(uint16_t port = 0) noexcept { return ipv6(in6addr_loopback, port); }
  /// Every address of this machine, for listening.
  static Address any(uint16_t port = 0) noexcept { return ipv4(INADDR_ANY, port); }
  static Address any_v6(uint16_t port = 0) noexcept { return ipv6(in6addr_any, port); }

  /// std::invalid_argument: empty, or longer than 107 bytes.
  static Address unix_path(std::string_view path) { return unix_name(path, 0); }
  /// An abstract name, which is in no directory; it may hold any bytes. Empty: one that the kernel chooses,
  /// when bound.
  static Address unix_abstract(std::string_view name) {
    if (name.empty()) {
      Address address;
      address.bytes_.local.sun_family = AF_UNIX;
      address.size_ = sizeof(sa_family_t);
      return address;
    }
    return unix_name(name, 1);
  }

  /// AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC for none.
  int family() const noexcept { return size_ ? bytes_.any.sa_family : AF_UNSPEC; }
  explicit operator bool() const noexcept { return size_ != 0; }
  bool is_ip() const noexcept { return family() == AF_INET || family() == AF_INET6; }
  bool is_unix() const noexcept { return family() == AF_UNIX; }
  bool is_abstract() const noexcept { return is_unix() && size_ > kUnixHeader && !bytes_.local.sun_path[0]; }

  /// 0 where there is none.
  uint16_t port() const noexcept {
    if (family() == AF_INET) return ntohs(bytes_.v4.sin_port);
    return family() == AF_INET6 ? ntohs(bytes_.v6.sin6_port) : uint16_t{0};
  }
  /// The same with another port. REQUIRES: is_ip().
  Address with_port(uint16_t port) const noexcept {
    Address other = *this;
    (family() == AF_INET ? other.bytes_.v4.sin_port : other.bytes_.v6.sin6_port) = htons(port);
    return other;
  }
  /// The interface of a link-local IPv6 address; 0: none.
  uint32_t scope() const noexcept { return family() == AF_INET6 ? bytes_.v6.sin6_scope_id : 0; }
  /// Of a Unix address, without the NUL that an abstract one begins with; "" for an unnamed one. Lives as
  /// long as the address.
  std::string_view unix_name() const noexcept {
    if (!is_unix() || size_ <= kUnixHeader) return {};
    const size_t length = size_ - kUnixHeader;
    if (is_abstract()) return {bytes_.local.sun_path + 1, length - 1};
    return {bytes_.local.sun_path, strnlen(bytes_.local.sun_path, length)};
  }

  /// As parse() takes it. "unix:" for an unnamed socket, "none" for none.
  std::string to_string() const {
    char text[256];
    return {text, detail::format_address(*this, text, sizeof text)};
  }

  const sockaddr* data() const noexcept { return &bytes_.any; }
  socklen_t size() const noexcept { return size_; }

  /// For a system call to write into: it has room for kRoom bytes; then resize().
  sockaddr* room() noexcept { return &bytes_.any; }
  void resize(socklen_t size) noexcept { size_ = size < kRoom ? size : kRoom; }
  static constexpr socklen_t kRoom = sizeof(sockaddr_un);

  /// False, with nothing changed, for what is no address of these kinds.
  bool assign(const sockaddr* address, socklen_t size) noexcept {
    if (size < sizeof(sa_family_t) || size > kRoom) return false;
    const int kind = address->sa_family;
    if ((kind != AF_INET || size < sizeof(sockaddr_in)) &&
        (kind != AF_INET6 || size < sizeof(sockaddr_in6)) && kind != AF_UNIX)
      return false;
    bytes_ = {};
    memcpy(&bytes_, address, size);
    size_ = size;
    return true;
  }

  friend bool operator==(const Address& a, const Address& b) noexcept { return detail::same_address(a, b); }

 private:
  static constexpr socklen_t kUnixHeader = offsetof(sockaddr_un, sun_path);

  static Address unix_name(std::string_view name, size_t offset) {
    Address address;
    constexpr size_t kLimit = sizeof address.bytes_.local.sun_path - 1;
    if (name.empty() || name.size() > kLimit)
      throw std::invalid_argument("weft::net::Address: a Unix socket's name has 1 to 107 bytes: '" +
                                  std::string(name) + "'");
    address.bytes_.local.sun_family = AF_UNIX;
    memcpy(address.bytes_.local.sun_path + offset, name.data(), name.size());
    // A path is counted with its NUL, an abstract name with the one that it begins with.
    address.size_ = static_cast<socklen_t>(kUnixHeader + name.size() + 1);
    return address;
  }

  union {
    sockaddr_un local;  // the longest: it is what is set to zero
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } bytes_;
  socklen_t size_ = 0;
};

inline std::string to_string(const Address& address) {
  return address.to_string();
}

}  // namespace weft::net

template <>
struct std::hash<weft::net::Address> {
  size_t operator()(const weft::net::Address& address) const noexcept {
    return weft::net::detail::hash_address(address);
  }
};
