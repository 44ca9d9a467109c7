// Probes: each asks once whether a service is there.
//
// All suspend the calling fiber, or block a native thread in poll(2). They are cancellation points:
// Cancelled, and the Timeout of a TimeoutScope around the call, pass through. That `limit` is over, and
// whatever the network and the service do, is a result and not an exception; so a limit of nothing is a
// result, too. `limit` is for all that a probe does, except that a native thread blocks in getaddrinfo(3)
// when the host is a name.
//
// They throw std::invalid_argument for what cannot be asked, and std::system_error where this process has no
// more descriptors or memory (EMFILE, ENFILE, ENOMEM, ENOBUFS): that says nothing of the service. No
// descriptor is left open. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "process/http.hpp"

namespace weft::process {

struct ProbeResult {
  bool ready;
  std::string seen;  ///< in words, whether ready or not: "127.0.0.1:8000 refuses connections"
};

/// Does somebody take connections at `port` of `host`, a name or an address? Its addresses are tried as by
/// net::TcpStream::connect(). The connection is closed at once. `again`: one look of many, which may take the
/// kernel's word for it that nobody listens.
ProbeResult probe_tcp(const std::string& host, uint16_t port, std::chrono::nanoseconds limit,
                      bool again = false);

/// The same for a Unix stream socket: a path, or '@' and an abstract name.
ProbeResult probe_unix(const std::string& path, std::chrono::nanoseconds limit);

/// Does the service answer the request with a status that request.accepts? The connection is closed when the
/// response's header was read. Redirects that are followed, ten at most, are under the same limit.
///
/// https needs libssl3 at run time: std::runtime_error if it is missing. REQUIRES: 128 KiB of stack.
ProbeResult probe_http(const HttpRequest& request, std::chrono::nanoseconds limit, bool again = false);

}  // namespace weft::process
