// What tests of the probes have in common: servers in fibers of the test, and probes on native threads.
#pragma once

#include <unistd.h>

#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "process/probe.hpp"
#include "unit/net/fixture.hpp"
#include "weft/event.hpp"

namespace weft::process::test {

using namespace std::chrono_literals;
using namespace std::string_literals;
using net::Address;

class ProbeTest : public net::test::NetTest {
 protected:
  static bool has_ipv6() { return ::access("/proc/net/if_inet6", F_OK) == 0; }
};

/// Serves one connection after the other in a fiber, until its end. What a handler throws of the network is
/// the client's doing, and is passed over.
class Server {
 public:
  using Handler = std::function<void(net::TcpStream&)>;

  explicit Server(Handler handler, const Address& address = Address::loopback())
      : listener_(address), handler_(std::move(handler)), fiber_(spawn([this] { serve(); })) {}
  ~Server() {
    fiber_.cancel();
    fiber_.join();
  }
  Server(const Server&) = delete;

  Address address() const { return listener_.local_address(); }
  uint16_t port() const { return address().port(); }
  std::string url(std::string_view target = "/") const {
    return "http://" + address().to_string() + std::string(target);
  }
  int connections() const { return connections_; }

 private:
  void serve() {
    for (;;) {
      net::TcpStream stream = listener_.accept();
      ++connections_;
      try {
        handler_(stream);
      } catch (const std::exception&) {
      }
    }
  }

  net::TcpListener listener_;
  Handler handler_;
  int connections_ = 0;
  Fiber<> fiber_;
};

/// The head of a request; what has come of the body stays in the stream.
inline std::string read_head(net::Stream& stream) {
  std::string head;
  stream.read_until(head, "\r\n\r\n", 1 << 20);
  return head;
}

/// Until the client has closed.
inline void read_to_the_end(net::Stream& stream) {
  char buffer[4096];
  while (stream.read_some(buffer)) {
  }
}

/// Answers each request by the same text; keeps the last request's head.
struct Answering {
  std::string answer;
  std::string* head = nullptr;
  void operator()(net::TcpStream& stream) const {
    const std::string text = read_head(stream);
    if (head) *head = text;
    stream.write_all(answer);
    read_to_the_end(stream);
  }
};

inline HttpRequest request_of(std::string_view url) {
  HttpRequest request;
  request.url = parse_url(url);
  return request;
}

/// Runs `body` on a native thread, while the fibers of this one go on.
template <typename F>
auto on_thread(F&& body) {
  Event done;
  decltype(body()) result{};
  std::thread thread([&] {
    result = body();
    done.set();
  });
  done.wait();
  thread.join();
  return result;
}

/// Spawns a fiber, and lets it run until it waits in `call`.
template <typename F>
auto spawn_until_it_waits_in(std::string_view call, F&& function) {
  engine::Fiber* probing = nullptr;
  auto fiber = spawn([&probing, body = std::forward<F>(function)]() mutable {
    probing = engine::Carrier::running_fiber();
    return body();
  });
  const auto waits = [&] {
    return probing && probing->state() == engine::Fiber::State::kParked && probing->wait_reason().call &&
           probing->wait_reason().call == call;
  };
  // Others must get on, too: those whom the poller wakes run when this one waits.
  while (!fiber.done() && !waits()) sleep(1ms);
  EXPECT_FALSE(fiber.done()) << "it never waited in " << call;
  return fiber;
}

inline void expect_cancelled(std::string_view call, std::function<void()> body) {
  auto fiber = spawn_until_it_waits_in(call, std::move(body));
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
}

/// A TimeoutScope's Timeout passes, and is not taken for the probe's limit.
inline void expect_timeout(const std::function<ProbeResult(std::chrono::nanoseconds limit)>& probe) {
  TimeoutScope scope(10ms);
  EXPECT_THROW(probe(1h), Timeout);
}

/// What a probe says at the end of its limit, without the limit. That is made longer while the probe does not
/// get as far as `wanted`: this machine may be slow.
inline std::string words_at_the_limit(
    std::string_view wanted, const std::function<ProbeResult(std::chrono::nanoseconds limit)>& probe) {
  for (std::chrono::nanoseconds limit = 10ms;; limit *= 2) {
    const ProbeResult result = probe(limit);
    EXPECT_FALSE(result.ready);
    const std::string words = result.seen.substr(0, result.seen.find(" within "));
    if (words == wanted || limit > 10s) return words;
  }
}

/// Both for a fiber and for a native thread.
inline void expect_the_limit(std::string_view wanted,
                             const std::function<ProbeResult(std::chrono::nanoseconds limit)>& probe) {
  EXPECT_EQ(words_at_the_limit(wanted, probe), wanted);
  EXPECT_EQ(words_at_the_limit(wanted, [&](auto limit) { return on_thread([&] { return probe(limit); }); }),
            wanted);
}

/// What std::invalid_argument says.
template <typename F>
std::string complaint_of(F&& body) {
  try {
    body();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no complaint";
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

}  // namespace weft::process::test
