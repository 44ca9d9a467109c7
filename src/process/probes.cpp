#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>

#include "weft/detail/process.hpp"
#include "weft/net/tcp.hpp"
#include "weft/net/unix.hpp"

namespace weft::detail {

namespace {

void say(ProbeAnswer& answer, bool ready, int error, const char* text) noexcept {
  answer.ready = ready;
  answer.error = error;
  snprintf(answer.seen, sizeof answer.seen, "%s", text);
}

// Nothing that `probe` throws leaves the library.
template <typename Probe>
Outcome answer_by(ProbeAnswer& answer, Probe&& probe) noexcept {
  try {
    probe();
  } catch (const Cancelled&) {
    return Outcome::kCancelled;
  } catch (const Timeout&) {
    // The probe's own limit, or that of a scope around it.
    if (const Outcome end = revocation(); end != Outcome::kReady) return end;
    say(answer, false, ETIMEDOUT, "no answer in time");
  } catch (const std::bad_alloc&) {
    return Outcome::kNoMemory;
  } catch (const std::system_error& error) {
    say(answer, false, error.code().value(), error.what());
  } catch (const std::exception& error) {
    say(answer, false, EINVAL, error.what());
  }
  return Outcome::kReady;
}

}  // namespace

Outcome probe_tcp(const char* host, uint16_t port, Nanos limit, ProbeAnswer& answer) noexcept {
  return answer_by(answer, [&] {
    net::ConnectOptions options;
    options.timeout = std::chrono::nanoseconds(std::max<Nanos>(limit, 1));
    const net::TcpStream stream = net::TcpStream::connect(host, port, options);
    // A port of the range from which clients get theirs may be given to this very client: then it is
    // connected to itself.
    if (stream.local_address() == stream.peer_address())
      return say(answer, false, ECONNREFUSED, "nobody listens");
    say(answer, true, 0, "it accepts connections");
  });
}

Outcome probe_unix(const char* path, Nanos limit, ProbeAnswer& answer) noexcept {
  return answer_by(answer, [&] {
    net::UnixStream::connect(net::Address::unix_path(path),
                             std::chrono::nanoseconds(std::max<Nanos>(limit, 1)));
    say(answer, true, 0, "it accepts connections");
  });
}

Outcome probe_http(const HttpProbe&, Nanos, ProbeAnswer& answer) noexcept {
  say(answer, false, ENOSYS, "to be joined with probe_http");
  return Outcome::kReady;
}

}  // namespace weft::detail
