#include "process/probe.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <stdexcept>

#include "process/listeners.hpp"
#include "weft/fiber.hpp"
#include "weft/net/tcp.hpp"
#include "weft/net/unix.hpp"

namespace weft::process {

namespace {

constexpr size_t kMostRedirects = 10;

std::string to_string(std::chrono::nanoseconds limit) {
  const double seconds = std::max(std::chrono::duration<double>(limit).count(), 0.0);
  const bool small = seconds > 0 && seconds < 1;
  char text[40];
  snprintf(text, sizeof text, "%.6g %s", small ? seconds * 1000 : seconds, small ? "ms" : "s");
  return text;
}

// Of this process, and no news of the service.
bool is_shortage(const std::error_code& code) {
  if (code == std::errc::not_enough_memory) return true;
  return code.category() == std::system_category() &&
         (code.value() == EMFILE || code.value() == ENFILE || code.value() == ENOBUFS);
}

std::string describe(const std::string& service, const std::error_code& code) {
  if (code.category() == net::resolve_category())
    return "cannot resolve the host of " + service + ": " + code.message();
  switch (code.value()) {
    case ECONNREFUSED:
      return service + " refuses connections";
    case ENOENT:
      return service + " does not exist";
    case ECONNRESET:
    case EPIPE:
      return service + " broke the connection off";
    default:
      return service + ": " + code.message();
  }
}

// What a probe was about to get when its time was over.
struct Progress {
  const char* wanted = "connection";
};

// Calls ask(), which returns words or nothing: then all is well. What the network does becomes words.
template <typename Ask>
std::optional<std::string> words_of(const std::string& service, std::chrono::nanoseconds limit,
                                    const Progress& progress, Ask&& ask) {
  try {
    ask();
    return std::nullopt;
  } catch (const Timeout&) {
    this_fiber::check();  // throws what the caller is to see: of a scope around the probe
    return std::string("no ") + progress.wanted + " within " + to_string(limit);
  } catch (const Failure& failure) {
    return failure.what();
  } catch (const std::system_error& error) {
    if (is_shortage(error.code())) throw;
    return describe(service, error.code());
  }
}

// While nobody listens at a port of the range that the kernel takes local ports from, the socket that
// connects may be given that port, and is then connected to itself (TCP's simultaneous open).
bool is_connected_to_itself(const net::TcpStream& stream, uint16_t port) {
  const net::Address local = stream.local_address();
  if (local.port() != port) return false;
  try {
    return stream.peer_address() == local;
  } catch (const std::system_error&) {
    return false;  // the peer has gone already
  }
}

net::TcpStream connect(const std::string& host, uint16_t port, const Deadline& deadline) {
  auto stream = net::TcpStream::connect(host, port, {.timeout = deadline.remaining()});
  if (is_connected_to_itself(stream, port)) {
    // Without this the port would linger, and the service could not bind it for a minute.
    const linger none{1, 0};
    ::setsockopt(stream.native_handle(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
    throw Failure(name_of(host, port) + " refuses connections (the probe reached itself)");
  }
  return stream;
}

class Exchange {
 public:
  Exchange(const HttpRequest& request, const Deadline& deadline) : request_(request), deadline_(deadline) {
    if (request.url.is_tls()) tls_.emplace(request.tls, request.url.host);
  }

  void run() {
    LimitedStream stream(connect(request_.url.host, request_.url.port, deadline_), deadline_);
    if (tls_) {
      progress_.wanted = "TLS handshake";
      tls_->handshake(stream);
    }
    progress_.wanted = "answer";
    send(stream);
    char buffer[4096];
    for (;;) {
      const size_t size = tls_ ? tls_->read_some(stream, buffer) : stream.read_some(buffer);
      if (size == 0) throw Failure(end_of_stream());
      if (reader_.feed({buffer, size})) break;
      progress_.wanted = "complete answer";
    }
    if (tls_) tls_->close(stream);
  }

  const Progress& progress() const { return progress_; }
  const ResponseHead& head() const { return reader_.head(); }

 private:
  void send(LimitedStream& stream) {
    const std::string head = format_head(request_);
    try {
      for (const Bytes bytes : {Bytes(head), Bytes(request_.body)})
        tls_ ? tls_->write_all(stream, bytes) : stream.write_all(bytes);
    } catch (const Timeout&) {
      throw;
    } catch (const std::system_error& error) {
      // A server that does not want the body answers and closes before it has all: the answer is there to be
      // read.
      if (error.code().value() != EPIPE && error.code().value() != ECONNRESET) throw;
    }
  }

  std::string end_of_stream() const {
    return name_of(request_.url.host, request_.url.port) + " closed the connection " +
           (reader_.begun() ? "within its answer" : "without an answer");
  }

  const HttpRequest& request_;
  const Deadline& deadline_;
  std::optional<TlsClient> tls_;
  ResponseReader reader_;
  Progress progress_;
};

void check_host(const std::string& host, uint16_t port) {
  const bool good = !host.empty() && std::none_of(host.begin(), host.end(), [](char c) {
    return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f;
  });
  if (!good)
    throw std::invalid_argument("the host '" + printable(host) +
                                "' cannot be asked: expected is a name or an address");
  if (port == 0)
    throw std::invalid_argument("port 0 of " + host + " cannot be asked: expected is 1 to 65535");
}

ProbeResult refused(const std::string& name) {
  return {false, describe(name, make_error_code(std::errc::connection_refused))};
}

}  // namespace

ProbeResult probe_tcp(const std::string& host, uint16_t port, std::chrono::nanoseconds limit, bool again) {
  check_host(host, port);
  const Deadline deadline(limit);
  const std::string name = name_of(host, port);
  if (again && nobody_listens(host.c_str(), port)) return refused(name);
  const auto failure = words_of(name, limit, {}, [&] { connect(host, port, deadline); });
  return failure ? ProbeResult{false, *failure} : ProbeResult{true, name + " accepts connections"};
}

ProbeResult probe_unix(const std::string& path, std::chrono::nanoseconds limit) {
  const bool abstract = path.starts_with('@');
  if (!abstract && path.find('\0') != path.npos)
    throw std::invalid_argument("a Unix socket's path has no NUL; an abstract name begins with '@'");
  if (path == "@") throw std::invalid_argument("an abstract name must follow '@'");
  const net::Address address =
      abstract ? net::Address::unix_abstract(path.substr(1)) : net::Address::unix_path(path);
  const Deadline deadline(limit);
  const auto failure =
      words_of(path, limit, {}, [&] { net::UnixStream::connect(address, deadline.remaining()); });
  return failure ? ProbeResult{false, *failure} : ProbeResult{true, path + " accepts connections"};
}

ProbeResult probe_http(const HttpRequest& request, std::chrono::nanoseconds limit, bool again) {
  check_request(request);
  if (again && nobody_listens(request.url.host.c_str(), request.url.port))
    return refused(name_of(request.url.host, request.url.port));
  const Deadline deadline(limit);
  const HttpRequest* current = &request;
  HttpRequest next;
  std::vector<std::string> asked;
  for (;;) {
    Exchange exchange(*current, deadline);
    const Url& url = current->url;
    const auto failure =
        words_of(name_of(url.host, url.port), limit, exchange.progress(), [&] { exchange.run(); });
    if (failure) return {false, *failure};
    const ResponseHead& head = exchange.head();
    std::string seen = head.to_string() + (asked.empty() ? "" : " at " + url.to_string());
    if (!request.follow_redirects || head.location.empty()) {
      const bool ready = request.accepts ? request.accepts(head.status) : head.status / 100 == 2;
      return {ready, std::move(seen)};
    }
    asked.push_back(current->method + " " + url.to_string());
    try {
      next = redirected(*current, head);
    } catch (const std::invalid_argument& wrong) {
      return {false, seen + ", but where it leads cannot be asked: " + wrong.what()};
    }
    const std::string place = next.url.to_string();
    if (std::find(asked.begin(), asked.end(), next.method + " " + place) != asked.end())
      return {false, "redirects go round in a circle, by way of " + place};
    if (asked.size() > kMostRedirects) return {false, "more than 10 redirects, the last to " + place};
    current = &next;
  }
}

}  // namespace weft::process
