// The networking part as an installed program has it: through libweft.so, whose C++ runtime is not the
// program's, and with public headers alone.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string_view>

#include "weft/fiber.hpp"
#include "weft/net/tcp.hpp"
#include "weft/net/udp.hpp"
#include "weft/net/unix.hpp"
#include "weft/runtime.hpp"
#include "weft/timeout.hpp"

namespace {

using namespace std::chrono_literals;
using namespace weft::net;

class Shared : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    weft::RuntimeOptions options;
    const std::string_view backend = getenv("WEFT_BACKEND") ? getenv("WEFT_BACKEND") : "";
    if (backend == "epoll") options.backend = weft::RuntimeOptions::Backend::kEpoll;
    if (backend == "io_uring") options.backend = weft::RuntimeOptions::Backend::kIoUring;
    const weft::Runtime start(options);
  }
  // What was given up (a name that is looked for) ends by itself, and has memory until then.
  void TearDown() override {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (weft::Runtime::report().fibers_alive != 0) {
      ASSERT_LT(std::chrono::steady_clock::now(), limit) << "a fiber was left behind";
      weft::sleep(1ms);
    }
  }
};

TEST_F(Shared, StreamsEcho) {
  TcpListener listener(Address::parse("127.0.0.1:0"));
  auto server = weft::spawn([&] {
    auto stream = listener.accept();
    std::string line;
    while (stream.read_until(line, "\n")) {
      stream.write_all(line);
      line.clear();
    }
  });
  auto client = TcpStream::connect("localhost", listener.local_address().port(), {.family = AF_INET});
  client.write_all("hello\n");
  char answer[6];
  client.read_exactly(answer);
  EXPECT_EQ(std::string_view(answer, 6), "hello\n");
  client.close();
  server.result();
}

TEST_F(Shared, WaitsEnd) {
  TcpListener listener(Address::loopback());
  auto cancelled = weft::spawn([&] { listener.accept(); });
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), weft::Cancelled);
  auto expired = weft::spawn([&] {
    weft::TimeoutScope scope(1ms);
    listener.accept();
  });
  EXPECT_THROW(expired.result(), weft::Timeout);
  EXPECT_THROW(TcpStream::connect("no number", 1, {.timeout = 1ns}), std::system_error);
  EXPECT_THROW(TcpListener(listener.local_address()), std::system_error);
  EXPECT_FALSE(weft::wait_readable_for(listener.native_handle(), 0ms));
}

TEST_F(Shared, DatagramsAndDescriptors) {
  auto here = UdpSocket::bind(Address::loopback());
  auto there = UdpSocket::bind(Address::loopback());
  here.send_to("x", there.local_address());
  char buffer[8];
  EXPECT_EQ(there.receive_from(buffer).from, here.local_address());
  auto [a, b] = UnixStream::pair();
  const int fd = here.native_handle();
  a.send_descriptors("x", {&fd, 1});
  EXPECT_EQ(b.receive_descriptors(buffer).descriptors.size(), 1u);
  UnixListener named(Address::unix_abstract(""));
  EXPECT_TRUE(UnixStream::connect(named.local_address()));
}

}  // namespace
