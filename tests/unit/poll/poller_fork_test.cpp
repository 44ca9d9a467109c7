// A fork child goes on waiting, without a word to its parent's poller.
#include <sys/wait.h>

#include <thread>

#include "poll/offload_pool.hpp"
#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

class PollerForkTest : public OnEveryBackend {
 protected:
  /// As Runtime does in a fork child.
  static void reset(PollLoop& loop) {
    ParkingLot::instance().reset_after_fork();
    StackPool::instance().reset_after_fork();
    OffloadPool::instance().reset_after_fork();
    loop.carrier.reset_after_fork();
    Fiber::reset_after_fork(loop.carrier.running());
  }
  static bool closing_ends_a_wait(PollLoop& loop, FdPair& pair) {
    Wake wake{};
    Fiber& fiber =
        loop.spawn([&] { wake = loop.poller->wait(pair.first, POLLIN, kNever, kCancellable, "test"); });
    loop.settle();
    close_routed(std::exchange(pair.first, -1));
    loop.join(fiber);
    return wake == Wake::kClosed;
  }
  static int status_of(pid_t child) {
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
  }
};
WEFT_ON_EVERY_BACKEND(PollerForkTest);

// What a child finds wrong it tells by its exit status.
#define CHILD_EXPECT(condition) \
  if (!(condition)) ::_exit(__LINE__ & 0x7f)

TEST_P(PollerForkTest, ParentAndChildBothGoOn) {
  PollLoop loop(GetParam());
  FdPair pair = socket_pair(), other = socket_pair();
  bool woken = false;
  Fiber& waiting = loop.spawn(
      [&] { woken = loop.poller->wait(pair.first, POLLIN, kNever, kCancellable, "test") == Wake::kReady; });
  // One that the kernel knows of, one that it does not.
  loop.settle();
  Fiber& unsubmitted = loop.spawn([&] {
    EXPECT_EQ(loop.poller->wait(other.first, POLLOUT, kNever, kCancellable, "test"), Wake::kReady);
  });
  loop.carrier.yield();
  const int descriptors = open_descriptors();
  const pid_t child = ::fork();
  if (child == 0) {
    reset(loop);
    CHILD_EXPECT(open_descriptors() == descriptors);
    CHILD_EXPECT(!woken);
    FdPair own = socket_pair();
    // The same numbers as are waited for in the parent.
    Fiber& again = loop.spawn([&] {
      CHILD_EXPECT(loop.poller->wait(pair.first, POLLIN, kNever, kCancellable, "test") == Wake::kReady);
      char byte;
      CHILD_EXPECT(::recv(pair.first, &byte, 1, MSG_DONTWAIT) == 1);
      CHILD_EXPECT(::write(own.second, "x", 1) == 1);
    });
    loop.settle();
    CHILD_EXPECT(::write(pair.second, "c", 1) == 1);
    CHILD_EXPECT(loop.poller->wait(own.first, POLLIN, kNever, kCancellable, "test") == Wake::kReady);
    loop.join(again);
    CHILD_EXPECT(closing_ends_a_wait(loop, pair));
    int done = 0;
    Fiber& offloaded = loop.spawn([&] { OffloadPool::instance().run("test", [&]() noexcept { done = 1; }); });
    loop.join(offloaded);
    CHILD_EXPECT(done == 1);
    ::_exit(0);
  }
  EXPECT_EQ(status_of(child), 0);
  loop.join(unsubmitted);
  loop.settle();
  // The child's byte woke the parent as well, since they share the file; it may have been taken by then, so
  // the wake-up is not asserted, but the parent's poller is alive.
  ASSERT_EQ(::write(pair.second, "p", 1), 1);
  loop.join(waiting);
  EXPECT_TRUE(woken);
}

TEST_P(PollerForkTest, AChildThatIsIdleLeavesItsParentAlone) {
  PollLoop loop(GetParam());
  FdPair pair = socket_pair(), stop = pipe_pair();
  const pid_t child = ::fork();
  if (child == 0) {
    reset(loop);
    ::close(std::exchange(stop.second, -1));
    CHILD_EXPECT(loop.poller->wait(stop.first, POLLIN, kNever, kCancellable, "test") == Wake::kReady);
    ::_exit(0);
  }
  for (int i = 0; i < 100; ++i) {
    Fiber& fiber = loop.spawn([&] {
      char byte;
      EXPECT_EQ(loop.poller->wait(pair.first, POLLIN, kNever, kCancellable, "test"), Wake::kReady);
      EXPECT_EQ(::recv(pair.first, &byte, 1, MSG_DONTWAIT), 1);
    });
    loop.settle();
    ASSERT_EQ(::write(pair.second, "x", 1), 1);
    loop.join(fiber);
  }
  ::close(std::exchange(stop.second, -1));
  EXPECT_EQ(status_of(child), 0);
}

TEST_P(PollerForkTest, AChildOfANativeThreadMakesItsOwnPoller) {
  PollLoop loop(GetParam());
  FdPair pair = socket_pair();
  Fiber& waiting = loop.spawn(
      [&] { EXPECT_EQ(loop.poller->wait(pair.first, POLLIN, kNever, kCancellable, "test"), Wake::kReady); });
  loop.settle();
  std::thread([&] {
    const pid_t child = ::fork();
    if (child == 0) {
      // The waits of the parent's fibers are no business of ours.
      Poller::closing(pair.first);
      ParkingLot::instance().reset_after_fork();
      StackPool::instance().reset_after_fork();
      PollLoop own(GetParam());
      CHILD_EXPECT(own.poller);
      FdPair fresh = socket_pair();
      Wake wake{};
      Fiber& fiber =
          own.spawn([&] { wake = own.poller->wait(fresh.first, POLLIN, kNever, kCancellable, "test"); });
      own.settle();
      CHILD_EXPECT(::write(fresh.second, "x", 1) == 1);
      own.join(fiber);
      CHILD_EXPECT(wake == Wake::kReady);
      CHILD_EXPECT(closing_ends_a_wait(own, pair));
      ::_exit(0);
    }
    EXPECT_EQ(status_of(child), 0);
  }).join();
  loop.settle();
  EXPECT_FALSE(waiting.done());
  ASSERT_EQ(::write(pair.second, "x", 1), 1);
  loop.join(waiting);
}

}  // namespace
}  // namespace weft::engine
