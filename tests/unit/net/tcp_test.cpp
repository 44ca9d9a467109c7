// TCP: connecting, listening, and what may go wrong.
#include "weft/net/tcp.hpp"

#include <sys/resource.h>

#include "fixture.hpp"

namespace weft::net::test {
namespace {

class Tcp : public NetTest {};

TEST_F(Tcp, ConnectsByAddressAndByName) {
  TcpListener listener(Address::loopback());
  const Address address = listener.local_address();
  EXPECT_NE(address.port(), 0);
  auto client = TcpStream::connect(address);
  Address peer;
  auto server = listener.accept(peer);
  EXPECT_EQ(peer, client.local_address());
  EXPECT_EQ(server.local_address(), address);
  for (const char* host : {"127.0.0.1", "localhost"}) {
    auto named = TcpStream::connect(host, address.port(), {.family = AF_INET});
    EXPECT_EQ(listener.accept().peer_address(), named.local_address());
  }
}

TEST_F(Tcp, ConnectsOverIpv6) {
  if (::access("/proc/net/if_inet6", F_OK) != 0) GTEST_SKIP();
  TcpListener listener(Address::loopback_v6(), {.v6_only = 1});
  auto client = TcpStream::connect(listener.local_address());
  EXPECT_EQ(listener.accept().peer_address(), client.local_address());
}

TEST_F(Tcp, AThousandConnectionsEcho) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit former = limit;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  constexpr int kConnections = 1000;
  TcpListener listener(Address::loopback());
  const Address address = listener.local_address();
  auto server = spawn([&] {
    std::vector<Fiber<>> echoes;
    for (int i = 0; i < kConnections; ++i)
      echoes.push_back(spawn([stream = std::make_shared<TcpStream>(listener.accept())] {
        char buffer[512];
        while (const size_t size = stream->read_some(buffer)) stream->write_all({buffer, size});
      }));
    for (auto& echo : echoes) echo.result();
  });
  std::atomic<int> there = 0, good = 0;
  std::vector<Fiber<>> clients;
  for (int i = 0; i < kConnections; ++i)
    clients.push_back(spawn([&, i] {
      auto stream = TcpStream::connect(address);
      ++there;
      while (there < kConnections) sleep(1ms);  // all at the same time
      for (int round = 0; round < 3; ++round) {
        const std::string text = "message " + std::to_string(i * 3 + round);
        stream.write_all(text);
        std::string answer(text.size(), ' ');
        stream.read_exactly(answer);
        good += answer == text;
      }
    }));
  for (auto& client : clients) client.result();
  server.result();
  EXPECT_EQ(good, 3 * kConnections);
  listener.close();
  setrlimit(RLIMIT_NOFILE, &former);
}

TEST_F(Tcp, RefusedIsSaidSo) {
  const RefusingPort port;
  EXPECT_EQ(error_of([&] { TcpStream::connect(port.address()); }), ECONNREFUSED);
  try {
    TcpStream::connect("127.0.0.1", port.address().port());
    ADD_FAILURE();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::connection_refused);
    EXPECT_NE(std::string(error.what()).find(port.address().to_string()), std::string::npos) << error.what();
  }
}

TEST_F(Tcp, UnreachableIsSaidSo) {
  // A broadcast address: which error depends on the routes there are.
  const int error = error_of([] { TcpStream::connect(Address::ipv4(0xffffffff, 1)); });
  EXPECT_TRUE(error == ENETUNREACH || error == EACCES) << error;
  EXPECT_EQ(error_of([] { TcpStream::connect(Address()); }), EAFNOSUPPORT);
  EXPECT_EQ(error_of([] { TcpStream::connect(std::span<const Address>()); }), EINVAL);
}

TEST_F(Tcp, WhoDoesNotAnswerIsWaitedForUntilTheTimeIsUp) {
  const SilentListener silent;
  EXPECT_EQ(timeout_of([&] { TcpStream::connect(silent.address(), {.timeout = 5ms}); }),
            "cannot connect to " + silent.address().to_string() + ": the time limit has passed");
  auto expiring = spawn([&] {
    TimeoutScope scope(5ms);
    TcpStream::connect(silent.address());
  });
  EXPECT_THROW(expiring.result(), Timeout);
  auto cancelled = spawn_until_it_waits([&] { TcpStream::connect(silent.address()); });
  EXPECT_FALSE(cancelled.done());
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), Cancelled);
  std::thread([&] { EXPECT_THROW(TcpStream::connect(silent.address(), {.timeout = 5ms}), Timeout); }).join();
}

TEST_F(Tcp, TheNextAddressIsTriedAtOnceWhenOneRefuses) {
  const RefusingPort refusing;
  TcpListener listener(Address::loopback());
  const Address addresses[] = {refusing.address(), refusing.address(), listener.local_address()};
  auto client = TcpStream::connect(addresses, {.attempt_delay = 1h});
  EXPECT_EQ(client.peer_address(), listener.local_address());
}

TEST_F(Tcp, TheNextAddressIsTriedWhenOneDoesNotAnswer) {
  const SilentListener silent;
  TcpListener listener(Address::loopback());
  const Address addresses[] = {silent.address(), silent.address(), listener.local_address()};
  auto client = TcpStream::connect(addresses, {.timeout = 1min, .attempt_delay = 2ms});
  EXPECT_EQ(client.peer_address(), listener.local_address());
  std::thread([&] {
    auto native = TcpStream::connect(addresses, {.timeout = 1min, .attempt_delay = 2ms});
    EXPECT_EQ(native.peer_address(), listener.local_address());
  }).join();
}

TEST_F(Tcp, OfAllErrorsTheOneThatSaysMostIsThrown) {
  const RefusingPort refusing;
  const SilentListener silent;
  // Refused, with a local address of the other family before.
  const Address addresses[] = {Address::loopback_v6(9), refusing.address()};
  EXPECT_EQ(error_of([&] { TcpStream::connect(addresses, {.local = Address::loopback()}); }), ECONNREFUSED);
  const Address slow[] = {silent.address(), refusing.address()};
  EXPECT_THROW(TcpStream::connect(slow, {.timeout = 20ms, .attempt_delay = 1ms}), Timeout);
}

TEST_F(Tcp, ConnectsFromALocalAddress) {
  TcpListener listener(Address::loopback());
  const Address local = Address::ipv4(0x7f000005, 0);
  auto client = TcpStream::connect(listener.local_address(), {.local = local});
  EXPECT_EQ(client.local_address().with_port(0), local);
  EXPECT_EQ(error_of([&] {
              TcpStream::connect(listener.local_address(), {.local = Address::ipv4(0x08080808, 0)});
            }),
            EADDRNOTAVAIL);
}

TEST_F(Tcp, AcceptersAreEndedByCloseAndByCancel) {
  TcpListener listener(Address::loopback());
  auto cancelled = spawn_until_it_waits([&] { listener.accept(); });
  std::vector<Fiber<int>> fibers;
  for (int i = 0; i < 5; ++i)
    fibers.push_back(spawn_until_it_waits([&] { return error_of([&] { listener.accept(); }); }));
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), Cancelled);
  std::atomic<int> native = -1;
  std::atomic<bool> begun = false;
  std::thread thread([&] {
    begun = true;
    native = error_of([&] { listener.accept(); });
  });
  while (!begun) sleep(1ms);
  const Address address = listener.local_address();
  listener.close();
  thread.join();
  EXPECT_EQ(native, EBADF);
  for (auto& fiber : fibers) EXPECT_EQ(fiber.result(), EBADF);
  EXPECT_EQ(error_of([&] { listener.accept(); }), EBADF);
  EXPECT_EQ(error_of([&] { TcpStream::connect(address); }), ECONNREFUSED);
  listener = TcpListener(address);  // the port is free again
}

TEST_F(Tcp, AcceptsForAWhile) {
  TcpListener listener(Address::loopback());
  EXPECT_FALSE(listener.accept_for(1ms));
  EXPECT_FALSE(listener.accept_for(0ms));
  auto waiting = spawn_until_it_waits([&] { return listener.accept_for(1h)->is_open(); });
  auto client = TcpStream::connect(listener.local_address());
  EXPECT_TRUE(waiting.result());
  auto second = TcpStream::connect(listener.local_address());
  EXPECT_TRUE(listener.accept_for(0ms));
  std::thread([&] { EXPECT_FALSE(listener.accept_for(1ms)); }).join();
}

TEST_F(Tcp, EachConnectionIsAcceptedOnce) {
  TcpListener listener(Address::loopback());
  std::atomic<int> accepted = 0;
  std::vector<Fiber<>> fibers;
  for (int i = 0; i < 20; ++i)
    fibers.push_back(spawn_until_it_waits([&] {
      listener.accept();
      ++accepted;
    }));
  std::vector<TcpStream> clients;
  for (int i = 1; i <= 20; ++i) {
    clients.push_back(TcpStream::connect(listener.local_address()));
    while (accepted < i) this_fiber::yield();
  }
  for (auto& fiber : fibers) fiber.result();
}

TEST_F(Tcp, TwoCannotListenAtOnePlaceButShareAPort) {
  TcpListener listener(Address::loopback());
  try {
    TcpListener second(listener.local_address());
    ADD_FAILURE();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::address_in_use);
    EXPECT_NE(std::string(error.what()).find("127.0.0.1"), std::string::npos);
  }
  TcpListener first(Address::loopback(), {.reuse_port = true});
  TcpListener second(first.local_address(), {.reuse_port = true});
  EXPECT_EQ(first.local_address(), second.local_address());
}

TEST_F(Tcp, WithoutDescriptorsAcceptAndConnectFailAndLoseNothing) {
  TcpListener listener(Address::loopback());
  auto client = TcpStream::connect(listener.local_address());
  rlimit former{};
  getrlimit(RLIMIT_NOFILE, &former);
  std::vector<OwnedDescriptor> all;
  rlimit limit = former;
  limit.rlim_cur = static_cast<rlim_t>(client.native_handle()) + 10;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  for (int fd; (fd = ::dup(0)) >= 0;) all.emplace_back(fd);
  const int accepting = error_of([&] { listener.accept(); });
  const int connecting = error_of([&] { TcpStream::connect(listener.local_address()); });
  const int listening = error_of([&] { TcpListener(Address::loopback()); });
  const int datagrams = error_of([&] { UdpSocket::bind(Address::loopback()); });
  const int pairs = error_of([&] { UnixStream::pair(); });
  all.clear();
  setrlimit(RLIMIT_NOFILE, &former);
  EXPECT_EQ(accepting, EMFILE);
  EXPECT_EQ(connecting, EMFILE);
  EXPECT_EQ(listening, EMFILE);
  EXPECT_EQ(datagrams, EMFILE);
  EXPECT_EQ(pairs, EMFILE);
  EXPECT_EQ(listener.accept().peer_address(), client.local_address());
}

TEST_F(Tcp, AdoptsAListener) {
  TcpListener listener(Address::loopback());
  TcpListener adopted = TcpListener::adopt(listener.release());
  auto client = TcpStream::connect(adopted.local_address());
  EXPECT_EQ(adopted.accept().peer_address(), client.local_address());
}

}  // namespace
}  // namespace weft::net::test
