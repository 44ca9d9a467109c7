// Url: where an HTTP service is to be asked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "weft/detail/core.hpp"

namespace weft::process {

/// An http or https URL, taken apart; the fragment is left out. A value.
struct Url {
  std::string scheme;            ///< "http" or "https"
  bool has_credentials = false;  ///< there was a "user:password@", or a part of it
  std::string user, password;    ///< percent-decoded
  std::string host;              ///< in lower case; an IPv6 address without brackets, its zone after '%'
  uint16_t port = 0;             ///< the scheme's own where none was written
  std::string target;            ///< path and query as written; "/" at least

  bool is_tls() const noexcept { return scheme == "https"; }
  /// "name", "name:8000", "[::1]:8000": the port only where it is not the scheme's own. Without credentials,
  /// and without a zone: as a Host header has it.
  std::string authority() const;
  /// The whole, without credentials: to be shown, and equal for what is the same place.
  std::string to_string() const;
  /// The same scheme, host and port: what is secret there may be told.
  bool same_origin(const Url& other) const noexcept {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
};

/// "name:8000", or "[::1]:8000": for messages.
std::string name_of(std::string_view host, uint16_t port);

/// With '?' for what would garble a message: control characters, and bytes beyond ASCII.
std::string printable(std::string_view text);

/// Is it an address of IPv4 or IPv6 (a zone may follow), and no name?
bool is_ip_address(std::string_view host) noexcept;

/// std::invalid_argument says which URL, what is wrong and what is expected; it hides the credentials.
Url parse_url(std::string_view text);

/// Where `reference`, a Location header, leads from `base`: a whole URL, "//host/path", "/path", "path" or
/// "?query". What is relative keeps the credentials, and so does what leads to the same origin without any of
/// its own. std::invalid_argument as parse_url().
Url resolve_reference(const Url& base, std::string_view reference);

}  // namespace weft::process
