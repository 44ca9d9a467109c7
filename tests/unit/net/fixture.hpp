// What tests of the networking part have in common.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "fiber/parking_lot.hpp"
#include "support/engine.hpp"
#include "support/poll_loop.hpp"
#include "weft/fiber.hpp"
#include "weft/net/resolve.hpp"
#include "weft/net/tcp.hpp"
#include "weft/net/udp.hpp"
#include "weft/net/unix.hpp"
#include "weft/timeout.hpp"

namespace weft::net::test {

using namespace std::chrono_literals;
using namespace std::string_literals;

/// The runtime with the backend of WEFT_BACKEND, the test being its main fiber. A descriptor or a fiber that
/// a test leaves behind fails it.
class NetTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (engine::Runtime::get()) return;
    engine::Settings settings;
    const std::string backend = getenv("WEFT_BACKEND") ? getenv("WEFT_BACKEND") : "";
    if (backend == "epoll") settings.backend = engine::Backend::kEpoll;
    if (backend == "io_uring") settings.backend = engine::Backend::kIoUring;
    ASSERT_NE(engine::Runtime::start(settings), nullptr);
    spawn([] { sleep(1ms); }).join();  // what the engine opens, it has opened now
  }
  void SetUp() override { descriptors_ = engine::test::open_descriptors(); }
  void TearDown() override {
    // A fiber is done a moment before it has ended.
    for (int i = 0; i < 1000 && engine::Fiber::counts().alive > 0; ++i) sleep(1ms);
    EXPECT_EQ(engine::Fiber::counts().alive, 0u) << "a fiber was left behind";
    EXPECT_EQ(engine::test::open_descriptors(), descriptors_) << "a descriptor was left behind";
  }

 private:
  int descriptors_ = 0;
};

/// Spawns a fiber, and lets it run until it waits.
template <typename F>
auto spawn_until_it_waits(F&& function) {
  engine::Fiber* engine_fiber = nullptr;
  auto fiber = spawn([&engine_fiber, body = std::forward<F>(function)]() mutable {
    engine_fiber = engine::Carrier::running_fiber();
    return body();
  });
  while (!fiber.done() && (!engine_fiber || engine_fiber->state() != engine::Fiber::State::kParked))
    this_fiber::yield();
  return fiber;
}

/// The errno with which `body` fails; 0 if it does not.
template <typename F>
int error_of(F&& body) {
  try {
    body();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().category(), std::system_category()) << error.what();
    return error.code().value();
  }
  return 0;
}

/// What the Timeout says that `body` throws.
template <typename F>
std::string timeout_of(F&& body) {
  try {
    body();
  } catch (const Timeout& timeout) {
    EXPECT_EQ(timeout.code(), std::errc::timed_out);
    return timeout.what();
  }
  return "none";
}

/// Two ends of a TCP connection.
struct Connection {
  TcpStream client, server;
  Connection() {
    TcpListener listener(Address::loopback());
    client = TcpStream::connect(listener.local_address());
    server = listener.accept();
  }
};

/// A port that is taken, and at which nobody listens: connecting is refused.
class RefusingPort {
 public:
  RefusingPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const Address address = Address::loopback();
    EXPECT_EQ(::bind(fd_.get(), address.data(), address.size()), 0);
    socklen_t size = Address::kRoom;
    EXPECT_EQ(::getsockname(fd_.get(), address_.room(), &size), 0);
    address_.resize(size);
  }
  const Address& address() const { return address_; }

 private:
  OwnedDescriptor fd_;
  Address address_;
};

/// A listener whose queue is full: further connections get no answer.
class SilentListener {
 public:
  SilentListener() : listener_(Address::loopback(), {.backlog = 0}), address_(listener_.local_address()) {
    // The kernel takes one more than the backlog.
    for (int i = 0; i < 8; ++i) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      fillers_.emplace_back(fd);
      (void)!::connect(fd, address_.data(), address_.size());
    }
  }
  const Address& address() const { return address_; }

 private:
  TcpListener listener_;
  Address address_;
  std::vector<OwnedDescriptor> fillers_;
};

/// Writes until nothing more is taken, with nobody reading. Returns how much that was.
inline size_t fill(Stream& stream) {
  const std::string block(65536, 'f');
  size_t total = 0;
  for (;;) {
    const ssize_t size = ::send(stream.native_handle(), block.data(), block.size(), MSG_DONTWAIT);
    if (size <= 0) {
      // TCP hands over in the background: what it took last may still free some room.
      if (!wait_writable_for(stream.native_handle(), 20ms)) return total;
      continue;
    }
    total += static_cast<size_t>(size);
  }
}

}  // namespace weft::net::test
