// Probes that only connect.
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "server.hpp"

namespace weft::process::test {
namespace {

using net::test::RefusingPort;
using net::test::SilentListener;

class ConnectProbe : public ProbeTest {};

TEST_F(ConnectProbe, WhoListensIsReady) {
  net::TcpListener listener(Address::loopback());
  const uint16_t port = listener.local_address().port();
  const std::string name = listener.local_address().to_string();
  const auto probe = [&] { return probe_tcp("127.0.0.1", port, 1min); };
  for (const ProbeResult& result : {probe(), on_thread(probe)}) {
    EXPECT_TRUE(result.ready);
    EXPECT_EQ(result.seen, name + " accepts connections");
  }
  // The connections are closed already.
  for (int i = 0; i < 2; ++i) {
    char byte;
    EXPECT_EQ(listener.accept().read_some({&byte, 1}), 0u);
  }
  EXPECT_TRUE(probe_tcp("localhost", port, 1min).ready);
}

TEST_F(ConnectProbe, Ipv6AndItsNameInWords) {
  if (!has_ipv6()) GTEST_SKIP();
  net::TcpListener listener(Address::loopback_v6(), {.v6_only = 1});
  const uint16_t port = listener.local_address().port();
  EXPECT_TRUE(probe_tcp("::1", port, 1min).ready);
  const auto named = net::resolve("localhost", port);
  const bool has_both = std::find(named.begin(), named.end(), Address::loopback_v6(port)) != named.end();
  EXPECT_EQ(probe_tcp("localhost", port, 1min).ready, has_both) << "any of its addresses will do";
  listener.close();
  EXPECT_EQ(probe_tcp("::1", port, 1min).seen, "[::1]:" + std::to_string(port) + " refuses connections");
}

TEST_F(ConnectProbe, RefusedIsSaidSo) {
  const RefusingPort refusing;
  const auto probe = [&] { return probe_tcp("127.0.0.1", refusing.address().port(), 1min); };
  for (const ProbeResult& result : {probe(), on_thread(probe)}) {
    EXPECT_FALSE(result.ready);
    EXPECT_EQ(result.seen, refusing.address().to_string() + " refuses connections");
  }
}

TEST_F(ConnectProbe, NoAnswerEndsAtTheLimit) {
  const SilentListener silent;
  const auto probe = [&] { return probe_tcp("127.0.0.1", silent.address().port(), 20ms); };
  for (const ProbeResult& result : {probe(), on_thread(probe)}) {
    EXPECT_FALSE(result.ready);
    EXPECT_EQ(result.seen, "no connection within 20 ms");
  }
  for (const auto limit : {0ns, -1ns, std::chrono::nanoseconds::min()})
    EXPECT_EQ(probe_tcp("127.0.0.1", silent.address().port(), limit).seen, "no connection within 0 s");
}

TEST_F(ConnectProbe, TheLongestLimitIsNone) {
  net::TcpListener listener(Address::loopback());
  const uint16_t port = listener.local_address().port();
  EXPECT_TRUE(probe_tcp("127.0.0.1", port, std::chrono::nanoseconds::max()).ready);
}

TEST_F(ConnectProbe, CancellationAndTheScopeOfTheCallerPass) {
  const SilentListener silent;
  const uint16_t port = silent.address().port();
  expect_cancelled("connect", [&] { probe_tcp("127.0.0.1", port, 1h); });
  expect_timeout([&](auto limit) { return probe_tcp("127.0.0.1", port, limit); });
  // Both are over: the scope around it counts.
  {
    TimeoutScope scope(1ms);
    EXPECT_THROW(sleep(1h), Timeout);
    EXPECT_THROW(probe_tcp("127.0.0.1", port, 0ns), Timeout);
  }
  TimeoutScope scope(1h);
  EXPECT_FALSE(probe_tcp("127.0.0.1", port, 5ms).ready);
}

TEST_F(ConnectProbe, UnknownHostsAreAResult) {
  const ProbeResult result = probe_tcp("no-such-host.invalid", 80, 1min);
  EXPECT_FALSE(result.ready);
  EXPECT_HAS(result.seen, "cannot resolve the host of no-such-host.invalid:80");
}

TEST_F(ConnectProbe, NoProbeIsConnectedToItself) {
  // Linux gives those who connect the even ports, one after the other: so one of these many is the port
  // itself.
  Address address;
  {
    net::TcpListener listener(Address::loopback());
    address = listener.local_address();
    address = address.with_port(static_cast<uint16_t>(address.port() & ~1u));
  }
  bool itself = false;
  on_thread([&] {
    for (int i = 0; i < 40000 && !itself; ++i) {
      const ProbeResult result = probe_tcp("127.0.0.1", address.port(), 1min);
      EXPECT_FALSE(result.ready) << i;
      itself = result.ready || result.seen.ends_with("(the probe reached itself)");
    }
    return true;
  });
  // Lingering, it would keep the service from that port.
  char connection[64];
  snprintf(connection, sizeof connection, "0100007F:%04X 0100007F:%04X", address.port(), address.port());
  std::ostringstream all;
  all << std::ifstream("/proc/self/net/tcp").rdbuf();
  EXPECT_EQ(all.str().find(connection), std::string::npos);
}

TEST_F(ConnectProbe, AUnixSocket) {
  const std::string path = "/tmp/weft-probe-" + std::to_string(::getpid());
  const std::string abstract = "@weft-probe-" + std::to_string(::getpid());
  EXPECT_EQ(probe_unix(path, 1min).seen, path + " does not exist");
  EXPECT_EQ(probe_unix(abstract, 1min).seen, abstract + " refuses connections");
  {
    net::UnixListener listener(Address::unix_path(path), {.unlink_on_close = false});
    net::UnixListener named(Address::unix_abstract(abstract.substr(1)));
    for (const auto& name : {path, abstract}) {
      const auto probe = [&] { return probe_unix(name, 1min); };
      for (const ProbeResult& result : {probe(), on_thread(probe)}) {
        EXPECT_TRUE(result.ready);
        EXPECT_EQ(result.seen, name + " accepts connections");
      }
    }
  }
  EXPECT_EQ(probe_unix(path, 1min).seen, path + " refuses connections");
  ::unlink(path.c_str());
}

TEST_F(ConnectProbe, AUnixSocketWithAFullQueue) {
  const std::string name = "weft-probe-full-" + std::to_string(::getpid());
  net::UnixListener listener(Address::unix_abstract(name), {.backlog = 0});
  std::vector<net::UnixStream> fillers;
  const auto fill = [&] { fillers.push_back(net::UnixStream::connect(Address::unix_abstract(name), 5ms)); };
  EXPECT_THROW(for (;;) fill(), Timeout);
  EXPECT_EQ(probe_unix("@" + name, 5ms).seen, "no connection within 5 ms");
  EXPECT_FALSE(on_thread([&] { return probe_unix("@" + name, 5ms); }).ready);
  expect_cancelled("connect", [&] { probe_unix("@" + name, 1h); });
  expect_timeout([&](auto limit) { return probe_unix("@" + name, limit); });
}

TEST_F(ConnectProbe, WhatCannotBeAskedIsRefused) {
  EXPECT_HAS(complaint_of([] { probe_tcp("", 80, 1s); }), "cannot be asked");
  EXPECT_HAS(complaint_of([] { probe_tcp("a b", 80, 1s); }), "cannot be asked");
  EXPECT_HAS(complaint_of([] { probe_tcp("a\0b"s, 80, 1s); }), "cannot be asked");
  EXPECT_HAS(complaint_of([] { probe_tcp("a", 0, 1s); }), "1 to 65535");
  EXPECT_HAS(complaint_of([] { probe_unix("", 1s); }), "1 to 107 bytes");
  EXPECT_HAS(complaint_of([] { probe_unix("@", 1s); }), "must follow '@'");
  EXPECT_HAS(complaint_of([] { probe_unix("a\0b"s, 1s); }), "NUL");
  EXPECT_HAS(complaint_of([] { probe_unix(std::string(108, 'x'), 1s); }), "1 to 107 bytes");
  EXPECT_HAS(complaint_of([] { probe_unix("@" + std::string(108, 'x'), 1s); }), "1 to 107 bytes");
  EXPECT_FALSE(probe_unix("/" + std::string(106, 'x'), 1s).ready);
}

TEST_F(ConnectProbe, WithoutDescriptorsThisProcessIsToBlame) {
  net::TcpListener listener(Address::loopback());
  const uint16_t port = listener.local_address().port();
  const HttpRequest request = request_of("http://127.0.0.1:" + std::to_string(port));
  rlimit former{};
  getrlimit(RLIMIT_NOFILE, &former);
  std::vector<OwnedDescriptor> all;
  rlimit limit = former;
  limit.rlim_cur = static_cast<rlim_t>(listener.native_handle()) + 10;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  for (int fd; (fd = ::dup(0)) >= 0;) all.emplace_back(fd);
  using net::test::error_of;
  const int tcp = error_of([&] { probe_tcp("127.0.0.1", port, 1s); });
  const int local = error_of([&] { probe_unix("@weft", 1s); });
  const int http = error_of([&] { probe_http(request, 1s); });
  all.clear();
  setrlimit(RLIMIT_NOFILE, &former);
  EXPECT_EQ(tcp, EMFILE);
  EXPECT_EQ(local, EMFILE);
  EXPECT_EQ(http, EMFILE);
}

}  // namespace
}  // namespace weft::process::test
