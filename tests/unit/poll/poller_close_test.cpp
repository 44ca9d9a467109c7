// What becomes of waits when their descriptor is closed, and of the number when it is used again.
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

class PollerCloseTest : public OnEveryBackend {
 protected:
  Wake wait(int fd, short events, Nanos deadline = kNever) {
    return loop.poller->wait(fd, events, deadline, kCancellable, "test");
  }
  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(PollerCloseTest);

bool at_end_of_stream(int fd) {
  char byte;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/// Closes without the engine's knowledge.
void close_behind_our_back(int fd) {
  ::syscall(SYS_close, fd);
}

/// Another file with the number of `fd`, which must be free.
void reuse(int fd, int other) {
  ASSERT_EQ(::fcntl(fd, F_GETFD), -1);
  ASSERT_EQ(::dup3(other, fd, O_CLOEXEC), fd);
}

TEST_P(PollerCloseTest, EndsAllWaitsAndThePeerSeesTheEndAtOnce) {
  FdPair pair = socket_pair();
  std::vector<Wake> wakes(20);
  std::vector<short> seen(20);
  std::vector<Fiber*> fibers;
  for (size_t i = 0; i < wakes.size(); ++i)
    fibers.push_back(&loop.spawn([&, i] {
      FdWait one;
      one.fd = pair.first;
      one.events = i % 2 ? POLLIN : POLLPRI;
      wakes[i] = loop.poller->wait({&one, 1}, kNever, kCancellable, "test");
      seen[i] = one.revents;
    }));
  loop.settle();
  EXPECT_FALSE(at_end_of_stream(pair.second));
  close_routed(std::exchange(pair.first, -1));
  EXPECT_TRUE(at_end_of_stream(pair.second));
  for (Fiber* fiber : fibers) loop.join(*fiber);
  for (const Wake wake : wakes) EXPECT_EQ(wake, Wake::kClosed);
  for (const short revents : seen) EXPECT_EQ(revents, POLLNVAL);
}

TEST_P(PollerCloseTest, EndsAWaitThatTheKernelDoesNotKnowOfYet) {
  FdPair pair = socket_pair();
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(pair.first, POLLIN); });
  loop.carrier.yield();
  close_routed(std::exchange(pair.first, -1));
  EXPECT_TRUE(at_end_of_stream(pair.second));
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kClosed);
}

TEST_P(PollerCloseTest, AfterATimeoutOrCancelNothingKeepsTheFileOpen) {
  for (const bool cancel : {true, false}) {
    FdPair pair = socket_pair();
    Fiber& fiber = loop.spawn([&] {
      const Wake wake = wait(pair.first, POLLIN, later(loop.clock.now(), cancel ? kSecond : kMillisecond));
      EXPECT_EQ(wake, cancel ? Wake::kCancelled : Wake::kTimeout);
    });
    loop.settle();
    if (cancel) fiber.cancel();
    loop.join(fiber);
    close_routed(std::exchange(pair.first, -1));
    EXPECT_TRUE(at_end_of_stream(pair.second));
  }
}

TEST_P(PollerCloseTest, AFiberThatWasWokenButDidNotRunYetIsNoObstacle) {
  FdPair pair = socket_pair();
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(pair.first, POLLIN); });
  loop.settle();
  fiber.cancel();  // ready now, with its poll still in the kernel
  close_routed(std::exchange(pair.first, -1));
  EXPECT_TRUE(at_end_of_stream(pair.second));
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kCancelled);
}

TEST_P(PollerCloseTest, OneOfManyDescriptorsClosedEndsTheWait) {
  FdPair pairs[3] = {socket_pair(), socket_pair(), socket_pair()};
  FdWait waits[3];
  for (int i = 0; i < 3; ++i) {
    waits[i].fd = pairs[i].first;
    waits[i].events = POLLIN;
  }
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = loop.poller->wait(waits, kNever, kCancellable, "poll"); });
  loop.settle();
  close_routed(std::exchange(pairs[1].first, -1));
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kClosed);
  EXPECT_EQ(waits[0].revents, 0);
  EXPECT_EQ(waits[1].revents, POLLNVAL);
  EXPECT_EQ(waits[2].revents, 0);
}

TEST_P(PollerCloseTest, ADuplicateKeepsItsWaits) {
  FdPair pair = socket_pair();
  const int duplicate = ::dup(pair.first);
  Wake wake{}, duplicate_wake{};
  Fiber& one = loop.spawn([&] { wake = wait(pair.first, POLLIN); });
  Fiber& other = loop.spawn([&] { duplicate_wake = wait(duplicate, POLLIN); });
  loop.settle();
  close_routed(std::exchange(pair.first, -1));
  loop.join(one);
  loop.settle();
  EXPECT_EQ(wake, Wake::kClosed);
  EXPECT_FALSE(other.done());
  ASSERT_EQ(::write(pair.second, "x", 1), 1);
  loop.join(other);
  EXPECT_EQ(duplicate_wake, Wake::kReady);
  close_routed(duplicate);
}

TEST_P(PollerCloseTest, AReusedNumberStartsAfresh) {
  FdPair other = socket_pair();
  for (int round = 0; round < 20; ++round) {
    FdPair pair = socket_pair();
    const int number = pair.first;
    // The former file stays open elsewhere, and ready.
    const int former = ::dup(pair.first);
    Fiber& before = loop.spawn([&] { EXPECT_EQ(wait(number, POLLIN), Wake::kClosed); });
    loop.settle();
    close_routed(std::exchange(pair.first, -1));
    loop.join(before);
    reuse(number, other.first);
    Wake wake{};
    Fiber& after = loop.spawn([&] { wake = wait(number, POLLIN); });
    loop.settle();
    ASSERT_EQ(::write(pair.second, "x", 1), 1);
    loop.settle();
    EXPECT_FALSE(after.done()) << "told of the former file";
    ASSERT_EQ(::write(other.second, "x", 1), 1);
    loop.join(after);
    EXPECT_EQ(wake, Wake::kReady);
    char byte;
    ASSERT_EQ(::read(other.first, &byte, 1), 1);
    close_routed(number);
    ::close(former);
  }
}

TEST_P(PollerCloseTest, ANumberReusedBehindOurBackStartsAfresh) {
  FdPair other = socket_pair();
  for (const bool former_stays_open : {false, true}) {
    FdPair pair = socket_pair();
    const int number = pair.first;
    const int former = former_stays_open ? ::dup(number) : -1;
    loop.run([&] { EXPECT_EQ(wait(number, POLLIN, later(loop.clock.now(), kMillisecond)), Wake::kTimeout); });
    close_behind_our_back(number);
    pair.first = -1;
    reuse(number, other.first);
    Wake wake{};
    Fiber& after = loop.spawn([&] { wake = wait(number, POLLIN); });
    loop.settle();
    if (former_stays_open) {
      ASSERT_EQ(::write(pair.second, "x", 1), 1);
    }
    loop.settle();
    EXPECT_FALSE(after.done()) << "told of the former file";
    ASSERT_EQ(::write(other.second, "x", 1), 1);
    loop.join(after);
    EXPECT_EQ(wake, Wake::kReady);
    char byte;
    ASSERT_EQ(::read(other.first, &byte, 1), 1);
    close_routed(number);
    if (former >= 0) ::close(former);
  }
}

TEST_P(PollerCloseTest, ANumberReusedBehindOurBackForARegularFile) {
  FdPair pair = socket_pair();
  const int number = pair.first;
  loop.run([&] { EXPECT_EQ(wait(number, POLLIN, later(loop.clock.now(), kMillisecond)), Wake::kTimeout); });
  FILE* file = ::tmpfile();
  ASSERT_EQ(::dup2(::fileno(file), number), number);
  loop.run([&] { EXPECT_EQ(wait(number, POLLIN), Wake::kReady); });
  ::fclose(file);
  ASSERT_EQ(::dup2(pair.second, number), number);
  loop.run([&] { EXPECT_EQ(wait(number, POLLOUT), Wake::kReady); });
}

TEST_P(PollerCloseTest, WhatNobodyWaitedForIsClosedWithoutFurtherAdo) {
  Poller::closing(-1);
  Poller::closing(INT32_MAX);
  FdPair pair = socket_pair();
  close_routed(std::exchange(pair.first, -1));
  std::thread([] { Poller::closing(3); }).join();
}

TEST_P(PollerCloseTest, AFileThatIsNeverReadyIsStillClosed) {
  FILE* file = ::tmpfile();
  Wake wake{};
  for (const int events : {0, POLLPRI}) {  // what regular files do not know
    loop.run([&] {
      EXPECT_EQ(wait(::fileno(file), static_cast<short>(events), later(loop.clock.now(), kMillisecond)),
                Wake::kTimeout);
    });
    Fiber& fiber = loop.spawn([&] { wake = wait(::fileno(file), static_cast<short>(events)); });
    loop.settle();
    EXPECT_FALSE(fiber.done());
    Poller::closing(::fileno(file));
    loop.join(fiber);
    EXPECT_EQ(wake, Wake::kClosed);
  }
  ::fclose(file);
}

TEST_P(PollerCloseTest, ManyWaitsOfOneDescriptor) {
  FdPair pair = socket_pair();
  int closed = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 1000; ++i)
    fibers.push_back(&loop.spawn([&] { closed += wait(pair.first, POLLIN) == Wake::kClosed; }));
  loop.settle();
  close_routed(std::exchange(pair.first, -1));
  EXPECT_TRUE(at_end_of_stream(pair.second));
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(closed, 1000);
}

TEST_P(PollerCloseTest, ANativeThreadClosesWhatAFiberWaitsFor) {
  for (int round = 0; round < 50; ++round) {
    FdPair pair = socket_pair();
    std::atomic<bool> armed{false}, seen{false};
    std::thread closer([&] {
      while (!armed) std::this_thread::yield();
      close_routed(std::exchange(pair.first, -1));
      seen = at_end_of_stream(pair.second);
    });
    Wake wake{};
    Fiber& fiber = loop.spawn([&] { wake = wait(pair.first, POLLIN); });
    loop.settle();
    armed = true;
    loop.join(fiber);
    EXPECT_EQ(wake, Wake::kClosed);
    closer.join();
    EXPECT_TRUE(seen);
  }
}

TEST_P(PollerCloseTest, AThreadThatClosesDoesNotWaitForAStuckCarrierForEver) {
  FdPair pair = socket_pair();
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(pair.first, POLLIN); });
  loop.settle();
  // The carrier is stuck here until the other thread has closed.
  std::thread([&] { close_routed(std::exchange(pair.first, -1)); }).join();
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kClosed);
  EXPECT_TRUE(at_end_of_stream(pair.second));
}

class PollerCarriersTest : public OnEveryBackend {};
WEFT_ON_EVERY_BACKEND(PollerCarriersTest);

TEST_P(PollerCarriersTest, CloseEachOthersDescriptors) {
  constexpr int kRounds = 100;
  struct Meeting {
    std::atomic<int> round{-1};
    std::atomic<int> fd{-1};
    std::atomic<int> closed{-1};  // the last round in which the other closed it
  } meetings[2];
  const auto work = [&](int me) {
    PollLoop mine(GetParam());
    for (int round = 0; round < kRounds; ++round) {
      FdPair pair = socket_pair();
      Wake wake{};
      Fiber& fiber =
          mine.spawn([&] { wake = mine.poller->wait(pair.first, POLLIN, kNever, kCancellable, "test"); });
      mine.settle();
      meetings[me].fd = pair.first;
      meetings[me].round = round;
      // Both do so at the same time, each on a fiber that can switch.
      mine.run([&] {
        while (meetings[1 - me].round < round) mine.carrier.yield();
        close_routed(meetings[1 - me].fd);
        meetings[1 - me].closed = round;
      });
      mine.join(fiber);
      while (meetings[me].closed < round) mine.carrier.yield();
      EXPECT_EQ(wake, Wake::kClosed);
      EXPECT_TRUE(at_end_of_stream(pair.second));
      pair.first = -1;
    }
  };
  std::thread one([&] { work(0); }), other([&] { work(1); });
  one.join();
  other.join();
}

TEST_P(PollerCarriersTest, WaitForOneDescriptor) {
  FdPair pair = socket_pair();
  std::atomic<int> waiting{0}, ready{0}, closed{0};
  std::atomic<bool> close_now{false};
  const auto work = [&] {
    PollLoop mine(GetParam());
    const auto wait_once = [&](short events) {
      return mine.poller->wait(pair.first, events, kNever, kCancellable, "test");
    };
    Fiber& in = mine.spawn([&] { ready += wait_once(POLLIN) == Wake::kReady; });
    Fiber& pri = mine.spawn([&] { closed += wait_once(POLLPRI) == Wake::kClosed; });
    mine.settle();
    ++waiting;
    mine.join(in);
    mine.join(pri);
  };
  std::thread one(work), two(work);
  while (waiting < 2) std::this_thread::yield();
  ASSERT_EQ(::write(pair.second, "x", 1), 1);
  while (ready < 2) std::this_thread::yield();
  close_routed(std::exchange(pair.first, -1));
  one.join();
  two.join();
  EXPECT_EQ(closed, 2);
}

}  // namespace
}  // namespace weft::engine
