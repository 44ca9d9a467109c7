// UDP: datagrams, whole or cut, to one or to many.
#include "weft/net/udp.hpp"

#include "fixture.hpp"

namespace weft::net::test {
namespace {

class Udp : public NetTest {
 protected:
  void SetUp() override {
    NetTest::SetUp();
    here = UdpSocket::bind(Address::loopback());
    there = UdpSocket::bind(Address::loopback());
  }
  void TearDown() override {
    here.close();
    there.close();
    NetTest::TearDown();
  }

  UdpSocket here, there;
  char buffer[64];
};

TEST_F(Udp, ADatagramArrivesWithItsSender) {
  auto receiver = spawn_until_it_waits([&] { return there.receive_from(buffer); });
  EXPECT_FALSE(receiver.done());
  here.send_to("hello", there.local_address());
  const Datagram datagram = receiver.result();
  EXPECT_EQ(std::string(buffer, datagram.size), "hello");
  EXPECT_FALSE(datagram.truncated);
  EXPECT_EQ(datagram.from, here.local_address());
}

TEST_F(Udp, WhatDoesNotFitIsCutAndSaidSo) {
  here.send_to(std::string(100, 'x'), there.local_address());
  here.send_to("", there.local_address());
  here.send_to("y", there.local_address());
  const Datagram cut = there.receive_from(buffer);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.size, sizeof buffer);
  EXPECT_EQ(cut.length, 100u);
  const Datagram empty = there.receive_from(buffer);
  EXPECT_EQ(empty.length, 0u);
  EXPECT_EQ(empty.from, here.local_address());
  EXPECT_EQ(there.receive_from(buffer).size, 1u);
  EXPECT_EQ(error_of([&] { here.send_to(std::string(70000, 'x'), there.local_address()); }), EMSGSIZE);
}

TEST_F(Udp, AConnectedOneHearsOnlyItsPeer) {
  auto stranger = UdpSocket::bind(Address::loopback());
  here.connect(there.local_address());
  EXPECT_EQ(here.peer_address(), there.local_address());
  stranger.send_to("stranger", here.local_address());
  here.send("ping");
  const Datagram ping = there.receive_from(buffer);
  there.send_to("pong", ping.from);
  EXPECT_EQ(here.receive_from(buffer).size, 4u);
  EXPECT_EQ(error_of([&] { there.send("x"); }), EDESTADDRREQ);
}

TEST_F(Udp, NobodyThereIsToldToTheNextCall) {
  here.connect(there.local_address());
  there.close();
  here.send("x");
  EXPECT_EQ(error_of([&] { here.receive_from(buffer); }), ECONNREFUSED);
}

TEST_F(Udp, WaitingEndsByCancelTimeAndClose) {
  auto cancelled = spawn_until_it_waits([&] { there.receive_from(buffer); });
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), Cancelled);
  auto expiring = spawn([&] {
    TimeoutScope scope(1ms);
    there.receive_from(buffer);
  });
  EXPECT_THROW(expiring.result(), Timeout);
  there.set_read_timeout(1ms);
  EXPECT_THROW(there.receive_from(buffer), Timeout);
  there.set_read_timeout(0ms);
  auto closed = spawn_until_it_waits([&] { return error_of([&] { there.receive_from(buffer); }); });
  there.close();
  EXPECT_EQ(closed.result(), EBADF);
}

TEST_F(Udp, ANativeThreadBlocks) {
  std::thread thread([&] {
    char answer[8];
    there.send_to("ready", here.local_address());
    EXPECT_EQ(there.receive_from(answer).size, 2u);
  });
  EXPECT_EQ(here.receive_from(buffer).size, 5u);
  here.send_to("go", there.local_address());
  thread.join();
}

TEST_F(Udp, OptionsReachTheKernel) {
  EXPECT_EQ(error_of([&] { here.send_to("x", Address::ipv4(0x7fffffff, 9)); }), EACCES);
  here.set_broadcast(true);
  EXPECT_EQ(here.option(SOL_SOCKET, SO_BROADCAST), 1);
  here.set_ttl(3);
  EXPECT_EQ(here.option(IPPROTO_IP, IP_TTL), 3);
  here.set_multicast_ttl(4);
  EXPECT_EQ(here.option(IPPROTO_IP, IP_MULTICAST_TTL), 4);
  auto v6 = UdpSocket::open(AF_INET6);
  v6.set_ttl(5);
  EXPECT_EQ(v6.option(IPPROTO_IPV6, IPV6_UNICAST_HOPS), 5);
  v6.set_multicast_ttl(6);
  EXPECT_EQ(v6.option(IPPROTO_IPV6, IPV6_MULTICAST_HOPS), 6);
  EXPECT_EQ(error_of([] { UdpSocket::open(AF_UNSPEC); }), EAFNOSUPPORT);
  EXPECT_EQ(error_of([] { UdpSocket::bind(Address::unix_abstract("")); }), EAFNOSUPPORT);
  EXPECT_EQ(error_of([&] { UdpSocket::bind(here.local_address()); }), EADDRINUSE);
}

TEST_F(Udp, AGroupIsJoinedAndLeft) {
  constexpr int kLoopback = 1;  // the number that Linux gives the interface lo
  auto member = UdpSocket::bind(Address::any());
  const Address group = Address::parse("239.1.2.3:0").with_port(member.local_address().port());
  member.join_group(group, kLoopback);
  EXPECT_EQ(error_of([&] { member.join_group(group, kLoopback); }), EADDRINUSE);
  here.set_multicast_interface(kLoopback);
  here.set_multicast_loop(true);
  here.send_to("all", group);
  EXPECT_EQ(member.receive_from(buffer).size, 3u);
  member.leave_group(group, kLoopback);
  EXPECT_EQ(error_of([&] { member.leave_group(group, kLoopback); }), EADDRNOTAVAIL);
  EXPECT_EQ(error_of([&] { member.join_group(Address::loopback(), kLoopback); }), EINVAL);
}

}  // namespace
}  // namespace weft::net::test
