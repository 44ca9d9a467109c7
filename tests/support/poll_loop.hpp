// A carrier with a real poller on the test's thread, and what tests of waiting need around it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fiber/parking_lot.hpp"
#include "poll/offload_pool.hpp"
#include "poll/poller.hpp"

namespace weft::engine::test {

/// A carrier attached to the calling thread, with a poller of its own. Fibers must have been joined before it
/// goes; it waits for threads of the pool that may still be about to wake it.
class PollLoop {
 public:
  explicit PollLoop(Backend backend) : poller(Poller::create(backend)), carrier(clock, *poller) {
    EXPECT_TRUE(carrier.attach());
  }
  ~PollLoop() {
    carrier.detach();
    while (OffloadPool::instance().busy_threads() > 0) ::sched_yield();
  }
  PollLoop(const PollLoop&) = delete;
  PollLoop& operator=(const PollLoop&) = delete;

  /// A fiber that will run `body`; to be joined.
  Fiber& spawn(std::function<void()> body) {
    auto* argument = new std::function<void()>(std::move(body));
    const auto entry = [](void* self) -> void* {
      std::unique_ptr<std::function<void()>> work(static_cast<std::function<void()>*>(self));
      (*work)();
      return nullptr;
    };
    Fiber* fiber = Fiber::create(carrier, entry, argument, kStack);
    if (!fiber) throw std::bad_alloc();
    carrier.start(*fiber);
    return *fiber;
  }

  void join(Fiber& fiber) {
    const WaitReason reason{WaitKind::kJoin, "join", &fiber};
    while (!fiber.done())
      ParkingLot::instance().park(&fiber.done_word(), kNever, kUninterruptible, reason,
                                  [&] { return !fiber.done(); });
    fiber.release();
  }

  /// Runs `body` in a fiber, to its end.
  void run(std::function<void()> body) { join(spawn(std::move(body))); }

  /// Lets the other fibers run until all are parked, and the kernel know what they wait for.
  void settle() {
    do {
      carrier.yield();
      poller->poll(0);
    } while (carrier.ready_count() > 0);
  }

  static constexpr size_t kStack = 256 * 1024;

  MonotonicClock clock;
  std::unique_ptr<Poller> poller;
  Carrier carrier;
};

/// Two descriptors that are closed at the end, unless the test did so and set them to -1.
struct FdPair {
  int first = -1, second = -1;
  FdPair() = default;
  FdPair(FdPair&& other) noexcept { *this = std::move(other); }
  /// REQUIRES: this is empty.
  FdPair& operator=(FdPair&& other) noexcept {
    first = std::exchange(other.first, -1);
    second = std::exchange(other.second, -1);
    return *this;
  }
  ~FdPair() {
    for (int fd : {first, second}) {
      if (fd < 0) continue;
      Poller::closing(fd);
      ::close(fd);
    }
  }
};

inline FdPair socket_pair(int type = SOCK_STREAM) {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
  FdPair pair;
  pair.first = fds[0];
  pair.second = fds[1];
  return pair;
}

/// first: the end to read from.
inline FdPair pipe_pair() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  FdPair pair;
  pair.first = fds[0];
  pair.second = fds[1];
  return pair;
}

inline FdWait wait_for(int fd, short events) {
  FdWait wait;
  wait.fd = fd;
  wait.events = events;
  return wait;
}

inline void put(int fd, size_t count = 1) {
  const std::string bytes(count, 'x');
  ASSERT_EQ(::write(fd, bytes.data(), count), static_cast<ssize_t>(count));
}

/// Writes until the descriptor takes no more.
inline void fill(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  const std::vector<char> bytes(1 << 16);
  while (::write(fd, bytes.data(), bytes.size()) > 0) {
  }
}

inline void drain(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  std::vector<char> bytes(1 << 16);
  while (::read(fd, bytes.data(), bytes.size()) > 0) {
  }
}

/// Closes `fd` as a routed close() does.
inline void close_routed(int fd) {
  Poller::closing(fd);
  EXPECT_EQ(::close(fd), 0);
}

inline int open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<int>(std::distance(begin(all), end(all)));
}

/// For suites that must hold whichever way the kernel is asked.
class OnEveryBackend : public testing::TestWithParam<Backend> {};

#define WEFT_ON_EVERY_BACKEND(suite)                                                                    \
  INSTANTIATE_TEST_SUITE_P(                                                                             \
      Backends, suite, testing::Values(weft::engine::Backend::kEpoll, weft::engine::Backend::kIoUring), \
      [](const auto& parameter) { return std::string(weft::engine::to_string(parameter.param)); })

}  // namespace weft::engine::test
