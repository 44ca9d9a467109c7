// Waiting for descriptors of the program's own.
#include "weft/io.hpp"

#include "fixture.hpp"

namespace weft::net::test {
namespace {

using engine::test::pipe_pair;
using engine::test::put;
using engine::test::socket_pair;

class Io : public NetTest {};

TEST_F(Io, AFiberWaitsUntilItIsReadable) {
  const auto pair = pipe_pair();
  auto fiber = spawn_until_it_waits([&] { wait_readable(pair.first); });
  EXPECT_FALSE(fiber.done());
  put(pair.second);
  fiber.result();
}

TEST_F(Io, AFiberWaitsUntilItIsWritable) {
  const auto pair = socket_pair();
  engine::test::fill(pair.first);
  auto fiber = spawn_until_it_waits([&] { wait_writable(pair.first); });
  EXPECT_FALSE(fiber.done());
  engine::test::drain(pair.second);
  fiber.result();
}

TEST_F(Io, TellsWhetherTheTimeWasUp) {
  const auto pair = socket_pair();
  EXPECT_FALSE(wait_readable_for(pair.first, 1ms));
  EXPECT_FALSE(wait_readable_for(pair.first, -1s));
  EXPECT_TRUE(wait_writable_for(pair.first, 0ms));
  put(pair.second);
  EXPECT_TRUE(wait_readable_for(pair.first, 1h));
}

TEST_F(Io, WhatIsNotOpenFails) {
  const int closed = [] { return pipe_pair().first; }();
  EXPECT_EQ(error_of([&] { wait_readable(closed); }), EBADF);
  EXPECT_EQ(error_of([] { wait_writable(-1); }), EBADF);
  EXPECT_EQ(error_of([] { wait_readable_for(-1, 0ms); }), EBADF);
}

TEST_F(Io, ClosingWakesThoseWhoWait) {
  auto pair = pipe_pair();
  OwnedDescriptor owned(std::exchange(pair.first, -1));
  auto fiber = spawn_until_it_waits([fd = owned.get()] { return error_of([fd] { wait_readable(fd); }); });
  owned.close();
  EXPECT_EQ(fiber.result(), EBADF);
}

TEST_F(Io, IsCancellable) {
  const auto pair = pipe_pair();
  auto fiber = spawn_until_it_waits([&] { wait_readable(pair.first); });
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
  auto expiring = spawn([&] {
    TimeoutScope scope(1ms);
    wait_readable(pair.first);
  });
  EXPECT_THROW(expiring.result(), Timeout);
}

TEST_F(Io, ANativeThreadBlocks) {
  const auto pair = pipe_pair();
  std::atomic<bool> seen = false;
  bool timeout = true;
  int error = 0;
  std::thread thread([&] {
    timeout = wait_readable_for(pair.first, 1ms);
    error = error_of([] { wait_readable(1'000'000); });
    wait_readable(pair.first);
    seen = true;
  });
  put(pair.second);
  thread.join();
  EXPECT_TRUE(seen);
  EXPECT_EQ(error, EBADF);
}

TEST_F(Io, BytesAreWhatIsMeant) {
  EXPECT_EQ(Bytes("abc").size(), 3u);
  EXPECT_EQ(Bytes("abc"s).size(), 3u);
  EXPECT_EQ(Bytes(std::string_view("a\0c", 3)).size(), 3u);
  const unsigned char array[4] = {};
  EXPECT_EQ(Bytes(array).size(), 4u);
  EXPECT_EQ(Bytes(std::vector<std::byte>(5)).size(), 5u);
  char room[16];
  EXPECT_EQ(MutableBytes(room).size(), 16u);
  EXPECT_EQ(MutableBytes(std::span<std::byte>()).size(), 0u);
  static_assert(!std::is_constructible_v<MutableBytes, const std::string&>);
  static_assert(!std::is_constructible_v<Bytes, std::vector<int>&>);
}

}  // namespace
}  // namespace weft::net::test
