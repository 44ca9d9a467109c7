#include "weft/net/address.hpp"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <charconv>

namespace weft::net::detail {

namespace {

bool parse_number(std::string_view text, uint32_t limit, uint32_t& number) noexcept {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number <= limit;
}

// inet_pton() and if_nametoindex() want a NUL.
template <size_t size>
bool terminate(std::string_view text, char (&copy)[size]) noexcept {
  if (text.size() >= size || text.find('\0') != text.npos) return false;
  copy[text.copy(copy, size - 1)] = '\0';
  return true;
}

const char* parse_unix(std::string_view name, Address& address) noexcept {
  if (name.empty()) return "a path or '@name' must follow 'unix:'";
  const bool abstract = name.front() == '@';
  if (abstract) name.remove_prefix(1);
  sockaddr_un local{AF_UNIX, {}};
  if (name.empty() || name.size() > sizeof local.sun_path - 1)
    return "a Unix socket's name has 1 to 107 bytes";
  if (!abstract && name.find('\0') != name.npos) return "a path has no NUL";
  name.copy(local.sun_path + (abstract ? 1 : 0), name.size());
  address.assign(reinterpret_cast<const sockaddr*>(&local),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1));
  return nullptr;
}

const char* parse_ipv6(std::string_view host, uint16_t port, Address& address) noexcept {
  uint32_t scope = 0;
  if (const size_t percent = host.find('%'); percent != host.npos) {
    const std::string_view name = host.substr(percent + 1);
    host = host.substr(0, percent);
    char interface[IF_NAMESIZE];
    if (!parse_number(name, UINT32_MAX, scope) &&
        (!terminate(name, interface) || !(scope = if_nametoindex(interface))))
      return "no interface has the name after '%'";
  }
  char text[INET6_ADDRSTRLEN];
  in6_addr bits;
  if (!terminate(host, text) || inet_pton(AF_INET6, text, &bits) != 1)
    return "not an IPv6 address between '[' and ']'";
  address = Address::ipv6(bits, port, scope);
  return nullptr;
}

size_t format_ip(const Address& address, char* text, size_t room) noexcept {
  char host[INET6_ADDRSTRLEN] = "";
  int length;
  if (address.family() == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr, host, sizeof host);
    length = snprintf(text, room, "%s:%u", host, unsigned{address.port()});
  } else {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address.data())->sin6_addr, host, sizeof host);
    char scope[IF_NAMESIZE + 1] = "";
    if (address.scope()) {
      scope[0] = '%';
      if (!if_indextoname(address.scope(), scope + 1))
        snprintf(scope + 1, sizeof scope - 1, "%u", address.scope());
    }
    length = snprintf(text, room, "[%s%s]:%u", host, scope, unsigned{address.port()});
  }
  return std::min(static_cast<size_t>(length), room);
}

// What tells addresses apart, as bytes: not the flow of IPv6, nor padding.
std::string_view identity(const Address& address, char (&bytes)[32]) noexcept {
  if (address.is_unix()) return address.unix_name();
  if (!address.is_ip()) return {};
  size_t size;
  const uint16_t port = address.port();
  const uint32_t scope = address.scope();
  if (address.family() == AF_INET) {
    size = sizeof(in_addr);
    memcpy(bytes, &reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr, size);
  } else {
    size = sizeof(in6_addr);
    memcpy(bytes, &reinterpret_cast<const sockaddr_in6*>(address.data())->sin6_addr, size);
  }
  memcpy(bytes + size, &port, sizeof port);
  memcpy(bytes + size + sizeof port, &scope, sizeof scope);
  return {bytes, size + sizeof port + sizeof scope};
}

}  // namespace

const char* parse_address(const char* data, size_t size, Address& address) noexcept {
  const std::string_view text(data, size);
  if (text.starts_with("unix:")) return parse_unix(text.substr(5), address);
  const size_t colon = text.rfind(':');
  const bool bracket = text.starts_with('[');
  if (colon == text.npos || (bracket && (colon == 0 || text[colon - 1] != ']')))
    return "a port must follow, as in '127.0.0.1:80' or '[::1]:80'";
  uint32_t port;
  if (!parse_number(text.substr(colon + 1), UINT16_MAX, port)) return "the port is no number up to 65535";
  const std::string_view host = text.substr(0, colon);
  if (bracket) return parse_ipv6(host.substr(1, host.size() - 2), static_cast<uint16_t>(port), address);
  if (host.find(':') != host.npos) return "an IPv6 address stands in '[' and ']'";
  char copy[INET_ADDRSTRLEN];
  in_addr bits;
  if (!terminate(host, copy) || inet_pton(AF_INET, copy, &bits) != 1)
    return "not an IPv4 address; weft::net::resolve() looks names up";
  address = Address::ipv4(ntohl(bits.s_addr), static_cast<uint16_t>(port));
  return nullptr;
}

size_t format_address(const Address& address, char* text, size_t room) noexcept {
  if (address.is_ip()) return format_ip(address, text, room);
  const std::string_view kind = address.is_unix() ? "unix:" : "none";
  size_t length = kind.copy(text, room);
  if (address.is_abstract() && length < room) text[length++] = '@';
  return length + address.unix_name().copy(text + length, room - length);
}

bool same_address(const Address& a, const Address& b) noexcept {
  char of_a[32], of_b[32];
  return a.family() == b.family() && a.is_abstract() == b.is_abstract() &&
         identity(a, of_a) == identity(b, of_b);
}

size_t hash_address(const Address& address) noexcept {
  char bytes[32];
  return std::hash<std::string_view>()(identity(address, bytes)) ^ static_cast<size_t>(address.family());
}

}  // namespace weft::net::detail
