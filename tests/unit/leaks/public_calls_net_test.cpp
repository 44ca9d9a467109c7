// Streams, listeners, datagrams, names: no call of theirs leaks, whatever the network does.
#include <fcntl.h>
#include <net/if.h>

#include <stdexcept>
#include <thread>
#include <vector>

#include "public_calls.hpp"
#include "weft/net/address.hpp"
#include "weft/net/resolve.hpp"
#include "weft/net/stream.hpp"
#include "weft/net/tcp.hpp"
#include "weft/net/udp.hpp"
#include "weft/net/unix.hpp"

namespace weft::net::test {
namespace {

using namespace weft::test;

const std::string kText(100, 'x');

// Nobody listens there, and nobody else gets it.
class RefusingPort {
 public:
  RefusingPort() : socket_(UdpSocket::bind(Address::loopback())), tcp_(::socket(AF_INET, SOCK_STREAM, 0)) {
    Address address = Address::loopback();
    socklen_t size = Address::kRoom;
    EXPECT_EQ(::bind(tcp_.get(), address.data(), address.size()), 0);
    EXPECT_EQ(::getsockname(tcp_.get(), address.room(), &size), 0);
    address_ = address;
  }
  const Address& address() const { return address_; }

 private:
  UdpSocket socket_;
  OwnedDescriptor tcp_;
  Address address_;
};

std::string socket_path() {
  return LeakTestEnvironment::folder() + "/socket";
}

TEST(AddressLeaks, MadeReadAndRefused) {
  EXPECT_NO_LEAK({
    const Address four = Address::parse("127.0.0.1:80");
    EXPECT_EQ(four, Address::ipv4(0x7f000001, 80));
    EXPECT_EQ(four, Address(four.data(), four.size()));
    EXPECT_TRUE(Address::try_parse("[::1]:80")->is_ip());
    EXPECT_FALSE(Address::try_parse(kText));
    EXPECT_THROW(Address::parse(kText), std::invalid_argument);
    EXPECT_THROW(Address(four.data(), 1), std::invalid_argument);
    EXPECT_EQ(Address::ipv6(in6addr_loopback, 1, 2).scope(), 2u);
    EXPECT_EQ(Address::any(1).with_port(2).port(), 2);
    EXPECT_EQ(Address::any_v6().family(), AF_INET6);
    EXPECT_EQ(Address::loopback_v6(80).to_string(), "[::1]:80");
    EXPECT_EQ(to_string(Address::loopback(80)), "127.0.0.1:80");
    EXPECT_EQ(Address::unix_path("/tmp/a").unix_name(), "/tmp/a");
    EXPECT_TRUE(Address::unix_abstract("name").is_abstract());
    EXPECT_TRUE(Address::unix_abstract("").is_unix());
    EXPECT_THROW(Address::unix_path(""), std::invalid_argument);
    EXPECT_THROW(Address::unix_abstract(kText + kText), std::invalid_argument);
    Address other;
    EXPECT_TRUE(other.assign(four.data(), four.size()));
    other.resize(static_cast<socklen_t>(other.room() == other.data() ? other.size() : 0));
    EXPECT_EQ(std::hash<Address>()(other), std::hash<Address>()(four));
  });
}

TEST(ResolveLeaks, FoundAndNot) {
  EXPECT_NO_LEAK({
    EXPECT_FALSE(resolve("127.0.0.1", 80).empty());
    EXPECT_FALSE(resolve("", "80", {.for_listening = true}).empty());
    EXPECT_EQ(error_of([] { resolve(kText, "80", {.numbers_only = true}); }), EAI_NONAME);
    try {
      resolve("127.0.0.1", "no such service");
      ADD_FAILURE();
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code().category(), resolve_category());
      EXPECT_NE(error.code().message(), "");
    }
  });
}

// On a thread of the pool, by the library that looks names up.
TEST(ResolveLeaks, ByTheSystem) {
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    EXPECT_FALSE(resolve("localhost", 80).empty());
    expect_ended([] {
      while (true) resolve("localhost", 80);
    });
  });
}

TEST(SocketLeaks, OptionsAndEnds) {
  EXPECT_NO_LEAK({
    TcpListener listener(Address::loopback());
    EXPECT_TRUE(listener.is_open());
    EXPECT_EQ(listener.local_address().family(), AF_INET);
    listener.set_receive_buffer(10000);
    listener.set_send_buffer(10000);
    listener.set_option(SOL_SOCKET, SO_REUSEADDR, 1);
    EXPECT_EQ(listener.option(SOL_SOCKET, SO_REUSEADDR), 1);
    EXPECT_EQ(error_of([&] { listener.option(SOL_SOCKET, -1); }), ENOPROTOOPT);
    EXPECT_EQ(error_of([&] { listener.set_option(SOL_SOCKET, -1, 1); }), ENOPROTOOPT);
    const auto waiting = spawn([&] { EXPECT_EQ(error_of([&] { listener.accept(); }), EBADF); });
    this_fiber::yield();
    listener.close();
    waiting.join();
    EXPECT_EQ(listener.native_handle(), -1);
    EXPECT_EQ(error_of([&] { listener.local_address(); }), EBADF);
    TcpListener other(Address::loopback());
    listener = std::move(other);
    ::close(listener.release());
  });
}

TEST(TimeLimitsLeaks, ThatPass) {
  EXPECT_NO_LEAK({
    auto [left, right] = UnixStream::pair();
    char byte;
    left.set_read_timeout(10us);
    EXPECT_THROW(left.read_some({&byte, 1}), Timeout);
    left.set_write_timeout(10us);
    std::string much(1 << 20, 'x');
    EXPECT_THROW(left.write_all(much), Timeout);
    right = std::move(left);
  });
}

TEST(StreamLeaks, ReadsAndWrites) {
  EXPECT_NO_LEAK({
    auto [left, right] = UnixStream::pair();
    left.write_all("a line\nand 5 more");
    std::string line;
    EXPECT_TRUE(right.read_until(line, "\n"));
    char buffer[64];
    right.read_exactly({buffer, 3});
    iovec vectors[2] = {{buffer, 3}, {buffer + 3, 3}};
    EXPECT_EQ(right.read_some(vectors), 6u);
    EXPECT_EQ(right.write_some(vectors), 6u);
    EXPECT_EQ(right.write_some("x"), 1u);
    EXPECT_EQ(left.read_some(buffer), 7u);
    left.shutdown_write();
    left.shutdown_read();
    EXPECT_FALSE(right.read_until(line, "\n"));
    EXPECT_THROW(right.read_exactly(buffer), EndOfStream);
    EXPECT_EQ(error_of([&] { right.write_all("x"); }), EPIPE);
    EXPECT_EQ(error_of([&] { right.set_no_delay(true); }), EOPNOTSUPP);
    EXPECT_TRUE(right.peer_address().is_unix());
  });
}

TEST(StreamLeaks, EndedWhileWaiting) {
  EXPECT_NO_LEAK({
    auto [left, right] = UnixStream::pair();
    char byte;
    std::string text, much(1 << 20, 'x');
    expect_ended([&] { left.read_some({&byte, 1}); });
    expect_ended([&] { left.read_exactly({&byte, 1}); });
    expect_ended([&] { left.read_until(text, "\n"); });
    expect_ended([&] { left.write_all(much); });
    expect_ended([&] { left.write_some("x"); });
    const auto reading = spawn([&] { EXPECT_EQ(error_of([&] { left.read_some({&byte, 1}); }), EBADF); });
    this_fiber::yield();
    left.close();
    reading.join();
    EXPECT_EQ(error_of([&] { left.peer_address(); }), EBADF);
  });
}

TEST(StreamLeaks, Adopted) {
  EXPECT_NO_LEAK({
    auto [left, right] = UnixStream::pair();
    Stream stream = Stream::adopt(left.release());
    stream.set_keep_alive(true);
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    EXPECT_EQ(error_of([&] { Stream::adopt(ends[0]); }), ENOTSOCK);
    EXPECT_EQ(error_of([&] { TcpStream::adopt(ends[0]); }), ENOTSOCK);
    EXPECT_EQ(error_of([&] { UnixStream::adopt(ends[0]); }), ENOTSOCK);
    EXPECT_EQ(error_of([&] { TcpListener::adopt(ends[0]); }), ENOTSOCK);
    close(ends[0]);
    close(ends[1]);
  });
}

TEST(TcpStreamLeaks, Connected) {
  TcpListener listener(Address::loopback());
  const Address address = listener.local_address();
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    auto stream = TcpStream::connect(address, {.timeout = 1h, .local = Address::loopback()});
    auto accepted = listener.accept();
    stream.set_no_delay(false);
    stream.set_keep_alive(60s, 10s, 3);
    const auto named = TcpStream::connect("127.0.0.1", address.port());
    const auto served = TcpStream::connect("127.0.0.1", std::to_string(address.port()));
    const Address all[] = {RefusingPort().address(), address};
    const auto second = TcpStream::connect(all);
    for (int i = 0; i < 3; ++i) listener.accept();
    accepted = TcpStream::adopt(accepted.release());
  });
}

TEST(TcpStreamLeaks, Refused) {
  const RefusingPort port;
  TcpListener full(Address::loopback(), {.backlog = 0});
  const auto first = TcpStream::connect(full.local_address());  // one more than its backlog
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    EXPECT_EQ(error_of([&] { TcpStream::connect(port.address()); }), ECONNREFUSED);
    EXPECT_EQ(error_of([&] { TcpStream::connect("127.0.0.1", port.address().port()); }), ECONNREFUSED);
    EXPECT_EQ(error_of([&] { TcpStream::connect("127.0.0.1", "no such service"); }), EAI_SERVICE);
    EXPECT_NE(error_of([&] { TcpStream::connect(std::span<const Address>()); }), 0);
    EXPECT_NE(error_of([&] { TcpStream::connect(port.address(), {.local = Address::loopback_v6()}); }), 0);
    EXPECT_THROW(TcpStream::connect(full.local_address(), {.timeout = 10us}), Timeout);
    expect_ended([&] { TcpStream::connect(full.local_address()); });
  });
}

TEST(TcpListenerLeaks, AcceptsOrNot) {
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    TcpListener listener(Address::loopback(), {.backlog = 5, .reuse_port = true, .no_delay = false});
    EXPECT_FALSE(listener.accept_for(10us));
    expect_ended([&] { listener.accept(); });
    const auto client = TcpStream::connect(listener.local_address());
    Address peer;
    listener.accept(peer);
    EXPECT_EQ(peer, client.local_address());
    const auto other = TcpStream::connect(listener.local_address());
    EXPECT_TRUE(listener.accept_for(1h));
    EXPECT_EQ(error_of([&] { TcpListener again(listener.local_address()); }), EADDRINUSE);
    EXPECT_EQ(error_of([&] { TcpListener there(Address::ipv4(0x08080808, 1)); }), EADDRNOTAVAIL);
    EXPECT_TRUE(TcpListener::adopt(listener.release()).is_open());
  });
}

TEST(UdpSocketLeaks, SendsAndReceives) {
  EXPECT_NO_LEAK({
    auto left = UdpSocket::bind(Address::loopback(), {.reuse_address = true});
    auto right = UdpSocket::open(AF_INET);
    right.connect(left.local_address());
    EXPECT_EQ(right.peer_address(), left.local_address());
    right.send(kText);
    char buffer[10];
    const Datagram datagram = left.receive_from(buffer);
    EXPECT_TRUE(datagram.truncated);
    left.send_to("x", datagram.from);
    EXPECT_EQ(right.receive_from(buffer).size, 1u);
    left.set_broadcast(true);
    left.set_ttl(5);
    left.set_multicast_ttl(5);
    left.set_multicast_loop(true);
    const int loopback = static_cast<int>(if_nametoindex("lo"));
    left.set_multicast_interface(loopback);
    const Address group = Address::parse("239.1.2.3:1");
    left.join_group(group, loopback);
    EXPECT_EQ(error_of([&] { left.join_group(group, loopback); }), EADDRINUSE);
    left.leave_group(group, loopback);
    EXPECT_EQ(error_of([&] { left.leave_group(group, loopback); }), EADDRNOTAVAIL);
  });
}

TEST(UdpSocketLeaks, RefusedOrEnded) {
  EXPECT_NO_LEAK({
    auto socket = UdpSocket::bind(Address::loopback());
    char buffer[10];
    expect_ended([&] { socket.receive_from(buffer); });
    socket.set_read_timeout(10us);
    EXPECT_THROW(socket.receive_from(buffer), Timeout);
    EXPECT_EQ(error_of([&] { socket.send_to(std::string(70000, 'x'), Address::loopback(1)); }), EMSGSIZE);
    EXPECT_EQ(error_of([&] { socket.send("x"); }), EDESTADDRREQ);
    EXPECT_EQ(error_of([&] { socket.peer_address(); }), ENOTCONN);
    EXPECT_EQ(error_of([&] { socket.connect(Address::loopback_v6(1)); }), EAFNOSUPPORT);
    EXPECT_EQ(error_of([&] { UdpSocket::bind(socket.local_address()); }), EADDRINUSE);
    EXPECT_EQ(error_of([] { UdpSocket::bind(Address::unix_path("/tmp/x")); }), EAFNOSUPPORT);
    EXPECT_NE(error_of([] { UdpSocket::open(-1); }), 0);
  });
}

TEST(UnixStreamLeaks, WithDescriptors) {
  EXPECT_NO_LEAK({
    auto [left, right] = UnixStream::pair();
    EXPECT_EQ(left.peer_credentials().process, getpid());
    const int ends[] = {left.native_handle(), right.native_handle(), left.native_handle()};
    left.send_descriptors("x", ends);
    char buffer[10];
    EXPECT_EQ(right.receive_descriptors(buffer).descriptors.size(), 3u);
    left.send_descriptors("x", ends);
    EXPECT_TRUE(right.receive_descriptors(buffer, 1).truncated);
    left.send_descriptors("x", ends);
    right.read_some(buffer);
    left.send_descriptors("x", ends);  // nobody takes them
    EXPECT_THROW(left.send_descriptors("", ends), std::invalid_argument);
    const int wrong[] = {900};
    EXPECT_EQ(error_of([&] { left.send_descriptors("x", wrong); }), EBADF);
    expect_ended([&] { left.receive_descriptors(buffer); });
    EXPECT_EQ(error_of([] { UnixStream::connect(Address::unix_abstract(kText)); }), ECONNREFUSED);
    const auto same = UnixStream::adopt(left.release());
  });
}

TEST(UnixListenerLeaks, AcceptsOrNot) {
  EXPECT_NO_LEAK({
    const Address address = Address::unix_path(socket_path());
    UnixListener listener(address, {.backlog = 5, .permissions = 0600});
    EXPECT_FALSE(listener.accept_for(10us));
    expect_ended([&] { listener.accept(); });
    const auto client = UnixStream::connect(address);
    listener.accept();
    const auto other = UnixStream::connect(address, 1h);
    EXPECT_TRUE(listener.accept_for(1h));
    EXPECT_EQ(error_of([&] { UnixListener again(address); }), EADDRINUSE);
    EXPECT_NE(error_of([] { UnixListener nowhere(Address::unix_path("/no such folder/x")); }), 0);
    UnixListener moved(std::move(listener));
    moved = UnixListener(Address::unix_abstract(""));
    EXPECT_EQ(error_of([&] { UnixStream::connect(address); }), ENOENT);
    moved.close();
  });
}

TEST(UnixListenerLeaks, WithAFullQueue) {
  UnixListener full(Address::unix_abstract(""), {.backlog = 0});
  const auto first = UnixStream::connect(full.local_address());
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    EXPECT_THROW(UnixStream::connect(full.local_address(), 10us), Timeout);
    expect_ended([&] { UnixStream::connect(full.local_address()); });
  });
}

TEST(StreamLeaks, OfANativeThread) {
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    auto [left, right] = UnixStream::pair();
    std::thread native([&, &stream = right] {
      char buffer[10];
      while (stream.read_some(buffer) > 0) stream.write_all(kText);
    });
    left.write_all("x");
    std::string answer(kText.size(), ' ');
    left.read_exactly(answer);
    left.close();
    native.join();
  });
}

}  // namespace
}  // namespace weft::net::test
