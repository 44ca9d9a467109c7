// What fibers do with sockets that threads cannot be seen to do: end each other's waits, and wait in great
// number.
#include "support/sockets.hpp"

namespace weft::engine::test {
namespace {

class SocketsTest : public OnEveryBackend {
 protected:
  const Calls& call = routed_calls();
  PollLoop loop{GetParam()};

  /// Spawns a fiber for `body`, lets it park, does `act` to it, and returns the errno that `body` ended with,
  /// or 0.
  int error_after(std::function<ssize_t()> body, const std::function<void(Fiber&)>& act) {
    int error = -1;
    Fiber& fiber = loop.spawn([&] { error = body() < 0 ? errno : 0; });
    loop.settle();
    EXPECT_EQ(fiber.state(), Fiber::State::kParked);
    act(fiber);
    loop.join(fiber);
    return error;
  }

  /// The calls that can park, each on a socket where it does.
  std::vector<std::pair<const char*, std::function<ssize_t()>>> parking_calls() {
    fill(full.first);
    return {
        {"recv", [this] { return call.recv(empty.first, byte, 1, 0); }},
        {"recv MSG_WAITALL", [this] { return call.recv(empty.first, byte, 2, MSG_WAITALL); }},
        {"recvmsg", [this] { return call.recvmsg(empty.first, &message, 0); }},
        {"recvmmsg", [this] { return call.recvmmsg(empty.first, &messages, 1, 0, nullptr); }},
        {"send", [this] { return call.send(full.first, byte, 1, 0); }},
        {"sendmsg", [this] { return call.sendmsg(full.first, &message, 0); }},
        {"sendmmsg", [this] { return call.sendmmsg(full.first, &messages, 1, 0); }},
        {"accept", [this] { return call.accept(listener.fd, nullptr, nullptr); }},
        {"splice", [this] { return call.splice(empty.first, nullptr, pipe.second, nullptr, 1, 0); }},
        {"sendfile",
         [this] {
           off_t start = 0;
           return call.sendfile(full.first, file.fd, &start, 1);
         }},
        {"connect", [this] { return connect_to_full(); }},
    };
  }

  static void fill(int fd) {
    std::vector<char> much(65536);
    while (::send(fd, much.data(), much.size(), MSG_DONTWAIT) > 0) continue;
    while (::send(fd, much.data(), 1, MSG_DONTWAIT) > 0) continue;
  }

  ssize_t connect_to_full() {
    while (::connect(backlog.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)).fd,
                     unanswering.address(), unanswering.length) == 0)
      continue;
    Fd late(socket(AF_UNIX, SOCK_STREAM, 0));
    return call.connect(late.fd, unanswering.address(), unanswering.length);
  }

  FdPair empty = socket_pair(), full = socket_pair(), pipe = pipe_pair();
  Listener listener{AF_INET};
  Listener unanswering{AF_UNIX, SOCK_STREAM, 0};
  std::vector<Fd> backlog;
  TemporaryFile file{16};
  char byte[2] = {};
  iovec vector{byte, 1};
  msghdr message{nullptr, 0, &vector, 1, nullptr, 0, 0};
  mmsghdr messages{message, 0};
};
WEFT_ON_EVERY_BACKEND(SocketsTest);

TEST_P(SocketsTest, DataThatIsThereCostsNoPark) {
  uint64_t switches = 1;
  loop.run([&] {
    const uint64_t before = loop.carrier.switch_count();
    for (int i = 0; i < 1000; ++i) {
      ASSERT_EQ(call.send(empty.first, "x", 1, 0), 1);
      ASSERT_EQ(call.recv(empty.second, byte, 1, 0), 1);
    }
    switches = loop.carrier.switch_count() - before;
  });
  EXPECT_EQ(switches, 0u);
}

TEST_P(SocketsTest, ClosingEndsAWait) {
  int error = error_after([&] { return call.recv(empty.first, byte, 1, 0); },
                          [&](Fiber&) { close_routed(std::exchange(empty.first, -1)); });
  EXPECT_EQ(error, EBADF);
  error = error_after([&] { return call.accept(listener.fd, nullptr, nullptr); },
                      [&](Fiber&) { close_routed(std::exchange(listener.fd, -1)); });
  EXPECT_EQ(error, EBADF);
}

TEST_P(SocketsTest, AReusedNumberIsNotTheSocketThatWasClosed) {
  const int number = empty.first;
  FdPair other = socket_pair();
  ASSERT_EQ(::send(other.second, "x", 1, 0), 1);
  const int error = error_after([&] { return call.recv(number, byte, 1, 0); },
                                [&](Fiber&) {
                                  Poller::closing(number);
                                  ASSERT_EQ(::dup2(other.first, number), number);
                                });
  EXPECT_EQ(error, EBADF);
}

TEST_P(SocketsTest, CancellingEndsEachWait) {
  for (auto& [name, body] : parking_calls()) {
    SCOPED_TRACE(name);
    int error = 0;
    Fiber& fiber = loop.spawn([&, &body = body] { error = body() < 0 ? errno : 0; });
    fiber.retain();
    loop.carrier.yield();
    ASSERT_FALSE(fiber.done());
    fiber.cancel();
    loop.join(fiber);
    fiber.release();
    EXPECT_EQ(error, ECANCELED);
  }
}

TEST_P(SocketsTest, AHandlerInterruptsEachWait) {
  for (auto& [name, body] : parking_calls()) {
    SCOPED_TRACE(name);
    int error = 0;
    Fiber& fiber = loop.spawn([&, &body = body] { error = body() < 0 ? errno : 0; });
    loop.carrier.yield();
    ASSERT_FALSE(fiber.done());
    while (!fiber.done()) {
      fiber.interrupt(false);
      loop.carrier.yield();
    }
    loop.join(fiber);
    EXPECT_EQ(error, EINTR);
  }
}

TEST_P(SocketsTest, AHandlerWithRestartInterruptsOnlyWhatHasATimeLimit) {
  Fiber* reader = nullptr;
  const int unlimited = error_after([&] { return call.recv(empty.first, byte, 1, 0); },
                                    [&](Fiber& fiber) {
                                      reader = &fiber;
                                      fiber.interrupt(true);
                                      loop.settle();
                                      EXPECT_EQ(fiber.state(), Fiber::State::kParked);
                                      EXPECT_EQ(::send(empty.second, "x", 1, 0), 1);
                                    });
  EXPECT_EQ(unlimited, 0);
  const timeval limit{100, 0};
  ASSERT_EQ(call.setsockopt(empty.first, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  const int limited = error_after([&] { return call.recv(empty.first, byte, 1, 0); },
                                  [&](Fiber& fiber) { fiber.interrupt(true); });
  EXPECT_EQ(limited, EINTR);
}

TEST_P(SocketsTest, AnInterruptedTransferTellsWhatItDid) {
  ssize_t received = 0;
  Fiber& reader = loop.spawn([&] { received = call.recv(empty.first, byte, 2, MSG_WAITALL); });
  ASSERT_EQ(::send(empty.second, "x", 1, 0), 1);
  loop.settle();
  ASSERT_EQ(reader.state(), Fiber::State::kParked);
  reader.interrupt(false);
  loop.join(reader);
  EXPECT_EQ(received, 1);

  std::vector<char> much(32 << 20);
  ssize_t sent = 0;
  Fiber& writer = loop.spawn([&] { sent = call.send(empty.first, much.data(), much.size(), 0); });
  loop.settle();
  ASSERT_EQ(writer.state(), Fiber::State::kParked);
  writer.interrupt(false);
  loop.join(writer);
  EXPECT_GT(sent, 0);
  EXPECT_LT(sent, static_cast<ssize_t>(much.size()));
}

// Natively such a reader may sleep on although enough has come, when it has taken a part before.
TEST_P(SocketsTest, LowWaterMark) {
  FdPair pair = connected(AF_INET);
  const int four = 4;
  ASSERT_EQ(call.setsockopt(pair.first, SOL_SOCKET, SO_RCVLOWAT, &four, sizeof four), 0);
  char buffer[8];
  ssize_t received = 0;
  Fiber& reader = loop.spawn([&] { received = call.recv(pair.first, buffer, sizeof buffer, 0); });
  ASSERT_EQ(::send(pair.second, "ab", 2, 0), 2);
  loop.carrier.yield();
  ASSERT_FALSE(reader.done());
  ASSERT_EQ(::send(pair.second, "cd", 2, 0), 2);
  loop.join(reader);
  EXPECT_EQ(received, 4);
}

TEST_P(SocketsTest, ManyReadersOnOneSocket) {
  FdPair pair = socket_pair(SOCK_DGRAM);
  constexpr int kReaders = 100;
  int received = 0;
  std::vector<Fiber*> readers;
  for (int i = 0; i < kReaders; ++i)
    readers.push_back(&loop.spawn([&] {
      char one;
      received += call.recv(pair.first, &one, 1, 0) == 1;
    }));
  loop.settle();
  for (int i = 0; i < kReaders; ++i) ASSERT_EQ(call.send(pair.second, "x", 1, 0), 1);
  for (Fiber* reader : readers) loop.join(*reader);
  EXPECT_EQ(received, kReaders);
}

TEST_P(SocketsTest, ReaderAndWriterOnOneSocket) {
  fill(full.first);
  std::string order;
  Fiber& writer = loop.spawn([&] {
    EXPECT_EQ(call.send(full.first, "x", 1, 0), 1);
    order += "w";
  });
  Fiber& reader = loop.spawn([&] {
    EXPECT_EQ(call.recv(full.first, byte, 1, 0), 1);
    order += "r";
  });
  loop.settle();
  ASSERT_EQ(::send(full.second, "x", 1, 0), 1);
  loop.join(reader);
  EXPECT_EQ(order, "r");
  std::vector<char> buffer(1 << 20);
  while (!writer.done()) {
    call.recv(full.second, buffer.data(), buffer.size(), MSG_DONTWAIT);
    loop.carrier.yield();
  }
  loop.join(writer);
  EXPECT_EQ(order, "rw");
}

TEST_P(SocketsTest, AHundredFibersAcceptOnOneListener) {
  constexpr int kCount = 100;
  int accepted = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < kCount; ++i)
    fibers.push_back(&loop.spawn([&] {
      const Fd connection(call.accept(listener.fd, nullptr, nullptr));
      accepted += connection.fd >= 0;
    }));
  loop.settle();
  std::vector<Fd> clients;
  for (int i = 0; i < kCount; ++i) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(call.connect(clients.back().fd, listener.address(), listener.length), 0);
  }
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(accepted, kCount);
}

TEST_P(SocketsTest, AThousandConnections) {
  constexpr int kCount = 1000;
  int echoed = 0;
  std::vector<Fiber*> fibers;
  Fiber& server = loop.spawn([&] {
    for (int i = 0; i < kCount; ++i) {
      const int connection = call.accept(listener.fd, nullptr, nullptr);
      ASSERT_GE(connection, 0);
      fibers.push_back(&loop.spawn([&, connection] {
        const Fd mine(connection);
        char text[8];
        for (ssize_t got; (got = call.recv(mine.fd, text, sizeof text, 0)) > 0;)
          ASSERT_EQ(call.send(mine.fd, text, static_cast<size_t>(got), 0), got);
      }));
    }
  });
  std::vector<Fiber*> clients;
  for (int i = 0; i < kCount; ++i)
    clients.push_back(&loop.spawn([&] {
      const Fd client(socket(AF_INET, SOCK_STREAM, 0));
      ASSERT_EQ(call.connect(client.fd, listener.address(), listener.length), 0);
      char text[8];
      for (int round = 0; round < 3; ++round) {
        ASSERT_EQ(call.send(client.fd, "12345678", 8, 0), 8);
        echoed += call.recv(client.fd, text, 8, MSG_WAITALL) == 8;
      }
    }));
  for (Fiber* fiber : clients) loop.join(*fiber);
  loop.join(server);
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(echoed, 3 * kCount);
}

// Readiness is seen, but the connection is gone when it is to be accepted: the carrier must not stand still.
TEST_P(SocketsTest, AStolenConnectionBlocksNobodyElse) {
  bool ran = false;
  Fiber& acceptor = loop.spawn([&] { ::close(call.accept(listener.fd, nullptr, nullptr)); });
  loop.settle();
  {
    Fd client(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(::connect(client.fd, listener.address(), listener.length), 0);
    std::thread([&] { ::close(::accept(listener.fd, nullptr, nullptr)); }).join();
  }
  loop.run([&] { ran = true; });
  EXPECT_TRUE(ran);
  EXPECT_FALSE(acceptor.done());
  Fd client(socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(::connect(client.fd, listener.address(), listener.length), 0);
  loop.join(acceptor);
}

TEST_P(SocketsTest, NativeThreadsGoStraightToLibc) {
  ssize_t received = 0;
  std::thread thread([&] { received = call.recv(empty.first, byte, 1, 0); });
  ASSERT_EQ(::send(empty.second, "x", 1, 0), 1);
  thread.join();
  EXPECT_EQ(received, 1);
}

}  // namespace
}  // namespace weft::engine::test
