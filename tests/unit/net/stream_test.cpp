// Streams: reading, writing, and what ends either.
#include "weft/net/stream.hpp"

#include <numeric>

#include "fixture.hpp"

namespace weft::net::test {
namespace {

class StreamTest : public NetTest {};

std::string pattern(size_t size) {
  std::string text(size, ' ');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i % 23 + i / 7919 % 3);
  return text;
}

std::string read_to_end(Stream& stream) {
  std::string all;
  char buffer[4096];
  while (const size_t size = stream.read_some(buffer)) all.append(buffer, size);
  return all;
}

TEST_F(StreamTest, WhatIsWrittenIsRead) {
  Connection c;
  auto echo = spawn_until_it_waits([&] {
    char buffer[100];
    while (const size_t size = c.server.read_some(buffer)) c.server.write_all({buffer, size});
    c.server.close();
  });
  c.client.write_all("hello");
  char answer[5];
  c.client.read_exactly(answer);
  EXPECT_EQ(std::string(answer, 5), "hello");
  c.client.shutdown_write();
  EXPECT_EQ(c.client.read_some(answer), 0u);
  echo.result();
}

TEST_F(StreamTest, MoreThanTheKernelHoldsIsWrittenAsItIsRead) {
  Connection c;
  const std::string text = pattern(8 << 20);
  auto writer = spawn_until_it_waits([&] {
    size_t done = 0;
    c.client.write_all(text, &done);
    EXPECT_EQ(done, text.size());
    c.client.close();
  });
  EXPECT_FALSE(writer.done());
  EXPECT_TRUE(read_to_end(c.server) == text);
  writer.result();
}

TEST_F(StreamTest, OneReadsWhileAnotherWrites) {
  Connection c;
  const std::string there = pattern(3 << 20), back = pattern(2 << 20);
  auto forward = spawn([&] { c.client.write_all(there), c.client.shutdown_write(); });
  auto backward = spawn([&] { c.server.write_all(back), c.server.shutdown_write(); });
  auto at_server = spawn([&] { return read_to_end(c.server); });
  auto at_client = spawn([&] { return read_to_end(c.client); });
  EXPECT_TRUE(at_server.result() == there);
  EXPECT_TRUE(at_client.result() == back);
  forward.result();
  backward.result();
}

TEST_F(StreamTest, VectorsAreReadAndWrittenInOrder) {
  Connection c;
  char one[] = "one", two[] = "twelve";
  const iovec out[] = {{one, 3}, {two, 6}};
  EXPECT_EQ(c.client.write_some(out), 9u);
  char first[4], second[5];
  const iovec in[] = {{first, 4}, {second, 5}};
  ASSERT_TRUE(wait_readable_for(c.server.native_handle(), 10s));
  EXPECT_EQ(c.server.read_some(in), 9u);
  EXPECT_EQ(std::string(first, 4) + std::string(second, 5), "onetwelve");
}

TEST_F(StreamTest, NothingAskedForIsNoWait) {
  Connection c;
  char nothing[1];
  EXPECT_EQ(c.client.read_some({nothing, 0}), 0u);
  EXPECT_EQ(c.client.write_some(""), 0u);
  c.client.read_exactly({nothing, 0});
  c.client.write_all("");
}

TEST_F(StreamTest, TheEndBeforeAllWasReadIsAnError) {
  Connection c;
  c.client.write_all("abc");
  c.client.close();
  char buffer[10];
  size_t done = 99;
  EXPECT_THROW(c.server.read_exactly(buffer, &done), EndOfStream);
  EXPECT_EQ(done, 3u);
}

TEST_F(StreamTest, ReadsUntilADelimiterAndNothingBeyond) {
  Connection c;
  c.client.write_all("GET /\r\nHost: a\r\n\r\nbody");
  std::string line;
  EXPECT_TRUE(c.server.read_until(line, "\r\n"));
  EXPECT_EQ(line, "GET /\r\n");
  line.clear();
  EXPECT_TRUE(c.server.read_until(line, "\r\n\r\n"));
  EXPECT_EQ(line, "Host: a\r\n\r\n");
  c.client.close();
  line.clear();
  EXPECT_FALSE(c.server.read_until(line, "\n"));
  EXPECT_EQ(line, "body");
}

TEST_F(StreamTest, ADelimiterMayComeInPieces) {
  Connection c;
  std::string line;
  auto reader = spawn_until_it_waits([&] { return c.server.read_until(line, "\r\n.\r\n"); });
  const std::string text = pattern(5000) + "\r\n\r\n.\r\n";
  for (size_t i = 0; i<text.size(); i += i> 4990 ? 1 : 998) {
    c.client.write_all(text.substr(i, i > 4990 ? 1 : 998));
    char byte;
    while (!reader.done() && ::recv(c.server.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
      this_fiber::yield();
  }
  EXPECT_TRUE(reader.result());
  EXPECT_EQ(line, text);
}

TEST_F(StreamTest, ALineThatIsTooLongIsLeftWhereItIs) {
  Connection c;
  c.client.write_all("0123456789\n");
  std::string line;
  EXPECT_FALSE(c.server.read_until(line, "\n", 10));
  EXPECT_EQ(line, "0123456789");
  EXPECT_TRUE(c.server.read_until(line, "\n", 11));
  EXPECT_EQ(line, "0123456789\n");
}

TEST_F(StreamTest, ALineThatWasCutShortByTimeGoesOn) {
  Connection c;
  c.server.set_read_timeout(1ms);
  c.client.write_all("half\r");
  std::string line;
  EXPECT_THROW(c.server.read_until(line, "\r\n"), Timeout);
  EXPECT_EQ(line, "half\r");
  c.client.write_all("\nmore");
  c.server.set_read_timeout(0ms);
  EXPECT_TRUE(c.server.read_until(line, "\r\n"));
  EXPECT_EQ(line, "half\r\n");
}

TEST_F(StreamTest, AReaderThatIsCancelledLeavesAStreamThatWorks) {
  Connection c;
  char buffer[8];
  auto reader = spawn_until_it_waits([&] { c.server.read_some(buffer); });
  reader.cancel();
  EXPECT_THROW(reader.result(), Cancelled);
  size_t done = 0;
  auto exact = spawn_until_it_waits([&] { c.server.read_exactly(buffer, &done); });
  c.client.write_all("abc");
  while (done < 3) this_fiber::yield();
  exact.cancel();
  EXPECT_THROW(exact.result(), Cancelled);
  EXPECT_EQ(done, 3u);
  c.client.write_all("x");
  EXPECT_EQ(c.server.read_some(buffer), 1u);
  EXPECT_EQ(buffer[0], 'x');
}

TEST_F(StreamTest, AWriterThatIsCancelledTellsHowMuchWasTaken) {
  Connection c;
  const std::string text = pattern(32 << 20);
  size_t done = 0;
  auto writer = spawn_until_it_waits([&] { c.client.write_all(text, &done); });
  EXPECT_FALSE(writer.done());
  writer.cancel();
  EXPECT_THROW(writer.result(), Cancelled);
  EXPECT_GT(done, 0u);
  EXPECT_LT(done, text.size());
  auto rest = spawn([&] {
    c.client.write_all(std::string_view(text).substr(done));
    c.client.close();
  });
  EXPECT_TRUE(read_to_end(c.server) == text);
  rest.result();
}

TEST_F(StreamTest, WhoIsToEndDoesNotEvenBegin) {
  Connection c;
  c.client.write_all("there");
  char buffer[8];
  auto reader = spawn([&] { c.server.read_some(buffer); });
  reader.cancel();
  EXPECT_THROW(reader.result(), Cancelled);
  auto writer = spawn([&] { c.server.write_all("x"); });
  writer.cancel();
  EXPECT_THROW(writer.result(), Cancelled);
  EXPECT_EQ(c.server.read_some(buffer), 5u);
}

TEST_F(StreamTest, TimeLimitsAreForWholeCalls) {
  Connection c;
  char buffer[8];
  c.server.set_read_timeout(2ms);
  EXPECT_THROW(c.server.read_some(buffer), Timeout);
  c.client.write_all("ab");
  size_t done = 0;
  EXPECT_THROW(c.server.read_exactly(buffer, &done), Timeout);
  EXPECT_EQ(done, 2u);
  fill(c.server);
  c.server.set_write_timeout(2ms);
  EXPECT_THROW(c.server.write_all("x", &done), Timeout);
  EXPECT_EQ(done, 0u);
  EXPECT_THROW(c.server.write_some("x"), Timeout);
  // Not to be taken for the ETIMEDOUT of a connection that broke off.
  EXPECT_EQ(timeout_of([&] { c.server.read_some(buffer); }), "read: the time limit has passed");
}

TEST_F(StreamTest, AScopesTimeEndsItToo) {
  Connection c;
  char buffer[8];
  auto reader = spawn([&] {
    TimeoutScope scope(1ms);
    c.server.read_some(buffer);
  });
  EXPECT_THROW(reader.result(), Timeout);
  c.client.write_all("x");
  EXPECT_EQ(c.server.read_some(buffer), 1u);
}

TEST_F(StreamTest, UnderAShieldWhoIsToEndSaysGoodbye) {
  Connection c;
  auto fiber = spawn_until_it_waits([&] {
    char buffer[8];
    try {
      c.server.read_some(buffer);
    } catch (const Cancelled&) {
      Shield shield;
      c.server.write_all("bye");
      c.server.read_exactly({buffer, 2});
      throw;
    }
  });
  fiber.cancel();
  char buffer[3];
  c.client.read_exactly(buffer);
  EXPECT_FALSE(fiber.done());
  c.client.write_all("ok");
  EXPECT_THROW(fiber.result(), Cancelled);
}

TEST_F(StreamTest, APeerThatFloodsDoesNotKeepAScopeFromEnding) {
  Connection c;
  auto flood = spawn([&] {
    return error_of([&] {
      const std::string block(65536, 'x');
      for (;;) c.client.write_all(block);
    });
  });
  char buffer[16];
  bool ended = false;
  try {
    TimeoutScope scope(20ms);
    for (;;) c.server.read_some(buffer);
  } catch (const Timeout&) {
    ended = true;
  }
  EXPECT_TRUE(ended);
  c.server.close();
  EXPECT_NE(flood.result(), 0);
}

TEST_F(StreamTest, ClosingEndsAllWhoReadAndWrite) {
  Connection c;
  const std::string much(16 << 20, 'x');  // more than the kernel takes, whatever room it finds meanwhile
  char buffer[8];
  std::vector<Fiber<int>> fibers;
  for (int i = 0; i < 10; ++i) {
    fibers.push_back(spawn_until_it_waits([&] { return error_of([&] { c.server.read_some(buffer); }); }));
    fibers.push_back(spawn_until_it_waits([&] { return error_of([&] { c.server.write_all(much); }); }));
  }
  const int fd = c.server.native_handle();
  c.server.close();
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
  for (auto& fiber : fibers) EXPECT_EQ(fiber.result(), EBADF);
  EXPECT_EQ(error_of([&] { c.server.read_some(buffer); }), EBADF);
  EXPECT_EQ(error_of([&] { c.server.shutdown_write(); }), EBADF);
  EXPECT_FALSE(c.server.is_open());
  EXPECT_EQ(c.server.native_handle(), -1);
  c.server.close();
}

TEST_F(StreamTest, AReaderThatWasWokenNeverReadsFromTheNextOfThatNumber) {
  Connection c, other;
  char buffer[8];
  auto reader = spawn_until_it_waits([&] { return error_of([&] { c.server.read_some(buffer); }); });
  const int fd = c.server.native_handle();
  c.client.write_all("x");
  while (!reader.done() && engine::Carrier::current()->ready_count() == 0)
    engine::Runtime::get()->poller().poll(0);
  // Ready to run, and the number is closed before it does.
  other.client.write_all("secret");
  c.server.close();
  const OwnedDescriptor same(::fcntl(other.server.native_handle(), F_DUPFD_CLOEXEC, fd));
  EXPECT_EQ(same.get(), fd);
  const int error = reader.result();
  EXPECT_TRUE(error == EBADF || (error == 0 && buffer[0] == 'x')) << error;
  EXPECT_EQ(other.server.read_some(buffer), 6u);
}

TEST_F(StreamTest, ClosingWakesNativeThreads) {
  Connection c;
  std::atomic<int> error = -1;
  std::atomic<bool> begun = false;
  std::thread thread([&] {
    char buffer[8];
    begun = true;
    error = error_of([&] { c.server.read_some(buffer); });
  });
  while (!begun) sleep(1ms);
  c.server.close();
  thread.join();
  EXPECT_EQ(error, EBADF);
}

TEST_F(StreamTest, NativeThreadsBlockAndKeepTime) {
  Connection c;
  std::thread thread([&] {
    char buffer[5];
    c.server.set_read_timeout(2ms);
    EXPECT_THROW(c.server.read_some(buffer), Timeout);
    c.server.set_read_timeout(0ms);
    c.server.write_all("ready");
    c.server.read_exactly(buffer);
    c.server.write_all({buffer, sizeof buffer});
  });
  char buffer[5];
  c.client.read_exactly(buffer);
  c.client.write_all("hello");
  c.client.read_exactly(buffer);
  EXPECT_EQ(std::string(buffer, 5), "hello");
  thread.join();
}

TEST_F(StreamTest, APeersResetIsAnError) {
  Connection c;
  char buffer[8];
  auto reader = spawn_until_it_waits([&] { return error_of([&] { c.server.read_some(buffer); }); });
  const linger at_once{1, 0};
  ASSERT_EQ(::setsockopt(c.client.native_handle(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
  c.client.close();
  EXPECT_EQ(reader.result(), ECONNRESET);
  EXPECT_EQ(error_of([&] { c.server.write_all("x"); }), EPIPE);
}

TEST_F(StreamTest, WritingToWhoHasClosedIsAnErrorAndNoSignal) {
  auto [a, b] = UnixStream::pair();
  b.close();
  EXPECT_EQ(error_of([&, &a = a] { a.write_all("x"); }), EPIPE);
}

TEST_F(StreamTest, AdoptsAndGivesUp) {
  auto pair = engine::test::socket_pair();
  Stream stream = Stream::adopt(std::exchange(pair.first, -1));
  engine::test::put(pair.second, 3);
  char buffer[8];
  EXPECT_EQ(stream.read_some(buffer), 3u);
  Stream moved = std::move(stream);
  EXPECT_FALSE(stream);
  EXPECT_TRUE(moved);
  auto reader = spawn_until_it_waits([&] { return moved.read_some(buffer); });
  engine::test::put(pair.second, 2);
  EXPECT_EQ(reader.result(), 2u);
  pair.first = moved.release();
  EXPECT_GE(pair.first, 0);
  EXPECT_EQ(moved.native_handle(), -1);
  EXPECT_EQ(error_of([&] { moved.read_some(buffer); }), EBADF);

  const auto pipe = engine::test::pipe_pair();
  EXPECT_EQ(error_of([&] { Stream::adopt(pipe.first); }), ENOTSOCK);
  const auto datagrams = engine::test::socket_pair(SOCK_DGRAM);
  EXPECT_EQ(error_of([&] { Stream::adopt(datagrams.first); }), EPROTOTYPE);
}

TEST_F(StreamTest, OptionsAndAddresses) {
  Connection c;
  EXPECT_EQ(c.client.peer_address(), c.server.local_address());
  EXPECT_EQ(c.server.peer_address(), c.client.local_address());
  EXPECT_EQ(c.client.option(IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(c.server.option(IPPROTO_TCP, TCP_NODELAY), 1);
  c.client.set_no_delay(false);
  EXPECT_EQ(c.client.option(IPPROTO_TCP, TCP_NODELAY), 0);
  c.client.set_keep_alive(30s, 5s, 3);
  EXPECT_EQ(c.client.option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(c.client.option(IPPROTO_TCP, TCP_KEEPIDLE), 30);
  EXPECT_EQ(error_of([&] { c.client.set_option(SOL_SOCKET, 9999, 1); }), ENOPROTOOPT);
}

}  // namespace
}  // namespace weft::net::test
