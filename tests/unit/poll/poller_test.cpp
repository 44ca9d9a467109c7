#include "poll/poller.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <thread>
#include <vector>

#include "support/poll_loop.hpp"

namespace weft {
namespace {

using namespace weft::test;

FdWait wait_for(int fd, short events) {
  FdWait wait;
  wait.fd = fd;
  wait.events = events;
  return wait;
}

void put(int fd, size_t count = 1) {
  const std::string bytes(count, 'x');
  ASSERT_EQ(::write(fd, bytes.data(), count), static_cast<ssize_t>(count));
}

/// Writes until the descriptor takes no more.
void fill(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  const std::vector<char> bytes(1 << 16);
  while (::write(fd, bytes.data(), bytes.size()) > 0) {
  }
}

void drain(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  std::vector<char> bytes(1 << 16);
  while (::read(fd, bytes.data(), bytes.size()) > 0) {
  }
}

class PollerTest : public OnEveryBackend {
 protected:
  /// Waits in the calling fiber.
  Wake wait(FdWait& wait, Nanos deadline = kNever, uint8_t flags = kCancellable | kInterruptible) {
    return loop.poller->wait({&wait, 1}, deadline, flags, "test");
  }
  Nanos in(Nanos time) { return later(loop.clock.now(), time); }

  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(PollerTest);

TEST_P(PollerTest, IsOfTheKindAskedFor) { EXPECT_EQ(loop.poller->backend(), GetParam()); }

TEST_P(PollerTest, WakesWhenDataArrives) {
  FdPair pair = socket_pair();
  Wake wake{};
  FdWait in = wait_for(pair.first, POLLIN);
  Fiber& fiber = loop.spawn([&] { wake = loop.poller->wait({&in, 1}, kNever, kCancellable, "recv"); });
  loop.settle();
  EXPECT_EQ(fiber.state(), Fiber::State::kParked);
  EXPECT_EQ(fiber.wait_reason().descriptor, pair.first);
  EXPECT_STREQ(fiber.wait_reason().call, "recv");
  put(pair.second);
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kReady);
  EXPECT_EQ(in.revents, POLLIN);
}

TEST_P(PollerTest, WakesWhenThereIsRoomToWrite) {
  FdPair pair = socket_pair();
  fill(pair.first);
  Wake wake{};
  FdWait out = wait_for(pair.first, POLLOUT);
  Fiber& fiber = loop.spawn([&] { wake = wait(out); });
  loop.settle();
  EXPECT_FALSE(fiber.done());
  drain(pair.second);
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kReady);
  EXPECT_EQ(out.revents, POLLOUT);
}

TEST_P(PollerTest, WhatIsReadyAlreadyIsFoundReady) {
  FdPair pair = socket_pair();
  put(pair.second);
  FdWait both = wait_for(pair.first, POLLIN | POLLOUT);
  loop.run([&] { EXPECT_EQ(wait(both), Wake::kReady); });
  EXPECT_EQ(both.revents, POLLIN | POLLOUT);
}

TEST_P(PollerTest, BothDirectionsOfOneDescriptorAreApart) {
  FdPair pair = socket_pair();
  fill(pair.first);
  FdWait in = wait_for(pair.first, POLLIN), out = wait_for(pair.first, POLLOUT);
  Wake in_wake{}, out_wake{};
  Fiber& reader = loop.spawn([&] { in_wake = wait(in); });
  Fiber& writer = loop.spawn([&] { out_wake = wait(out); });
  loop.settle();
  put(pair.second);
  loop.join(reader);
  loop.settle();
  EXPECT_EQ(in_wake, Wake::kReady);
  EXPECT_EQ(in.revents, POLLIN);
  EXPECT_FALSE(writer.done());
  drain(pair.second);
  loop.join(writer);
  EXPECT_EQ(out_wake, Wake::kReady);
  EXPECT_EQ(out.revents, POLLOUT);
}

TEST_P(PollerTest, AllFibersThatWaitForADescriptorAreWoken) {
  FdPair pair = socket_pair();
  constexpr int kFibers = 100;
  int woken = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < kFibers; ++i)
    fibers.push_back(&loop.spawn([&] {
      FdWait in = wait_for(pair.first, POLLIN);
      woken += wait(in) == Wake::kReady;
    }));
  loop.settle();
  EXPECT_EQ(woken, 0);
  put(pair.second);
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(woken, kFibers);
}

TEST_P(PollerTest, OnePassesWhatItDoesNotTakeOnToTheNext) {
  FdPair pair = socket_pair();
  constexpr int kFibers = 20;
  int got = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < kFibers; ++i)
    fibers.push_back(&loop.spawn([&] {
      char byte;
      while (::recv(pair.first, &byte, 1, MSG_DONTWAIT) != 1) {
        FdWait in = wait_for(pair.first, POLLIN);
        ASSERT_EQ(wait(in), Wake::kReady);
      }
      ++got;
    }));
  for (int i = 0; i < kFibers; ++i) {
    loop.settle();
    EXPECT_EQ(got, i);
    put(pair.second);
  }
  for (Fiber* fiber : fibers) loop.join(*fiber);
}

TEST_P(PollerTest, EndOfStreamIsReported) {
  FdPair pair = socket_pair();
  FdWait in = wait_for(pair.first, POLLIN | POLLRDHUP);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(in), Wake::kReady); });
  loop.settle();
  ::close(std::exchange(pair.second, -1));
  loop.join(fiber);
  EXPECT_EQ(in.revents, POLLIN | POLLRDHUP | POLLHUP);
}

TEST_P(PollerTest, HangUpIsReportedThoughNothingWasAskedFor) {
  FdPair pair = pipe_pair();
  FdWait none = wait_for(pair.second, 0);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(none), Wake::kReady); });
  loop.settle();
  EXPECT_FALSE(fiber.done());
  ::close(std::exchange(pair.first, -1));
  loop.join(fiber);
  EXPECT_EQ(none.revents, POLLERR);
}

TEST_P(PollerTest, AWriterIsNotWokenByThePeersHalfClose) {
  FdPair pair = socket_pair();
  fill(pair.first);
  ::shutdown(pair.second, SHUT_WR);
  FdWait out = wait_for(pair.first, POLLOUT);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(out), Wake::kReady); });
  for (int i = 0; i < 10; ++i) loop.settle();
  EXPECT_EQ(fiber.state(), Fiber::State::kParked);
  drain(pair.second);
  loop.join(fiber);
  EXPECT_EQ(out.revents & POLLOUT, POLLOUT);
}

TEST_P(PollerTest, AWaitThatSurvivedAHalfCloseCanTimeOut) {
  FdPair pair = socket_pair();
  fill(pair.first);
  ::shutdown(pair.second, SHUT_WR);
  FdWait out = wait_for(pair.first, POLLOUT);
  loop.run([&] { EXPECT_EQ(wait(out, in(2 * kMillisecond)), Wake::kTimeout); });
  EXPECT_EQ(out.revents, 0);
}

TEST_P(PollerTest, TimesOut) {
  FdPair pair = socket_pair();
  FdWait none = wait_for(pair.first, POLLIN);
  loop.run([&] {
    const Nanos deadline = in(3 * kMillisecond);
    EXPECT_EQ(wait(none, deadline), Wake::kTimeout);
    EXPECT_GE(loop.clock.now(), deadline);
  });
  EXPECT_EQ(none.revents, 0);
}

TEST_P(PollerTest, ShortDeadlinesAreNotRoundedToMilliseconds) {
  FdPair pair = socket_pair();
  int short_ones = 0;
  loop.run([&] {
    for (int i = 0; i < 200; ++i) {
      FdWait none = wait_for(pair.first, POLLIN);
      const Nanos start = loop.clock.now();
      EXPECT_EQ(wait(none, start + 100 * kMicrosecond), Wake::kTimeout);
      const Nanos taken = loop.clock.now() - start;
      EXPECT_GE(taken, 100 * kMicrosecond);
      short_ones += taken < 500 * kMicrosecond;
    }
  });
  EXPECT_GE(short_ones, 50);  // of 200, on a machine that is busy with other things
}

TEST_P(PollerTest, ADeadlineInThePastStillFindsWhatIsReady) {
  FdPair pair = socket_pair();
  loop.run([&] {
    FdWait one = wait_for(pair.first, POLLIN);
    EXPECT_EQ(wait(one, 0), Wake::kTimeout);
    EXPECT_EQ(one.revents, 0);
    put(pair.second);
    EXPECT_EQ(wait(one, 0), Wake::kReady);
    EXPECT_EQ(one.revents, POLLIN);
  });
}

TEST_P(PollerTest, ALoopOfExpiredWaitsLetsOthersRun) {
  FdPair pair = socket_pair();
  bool stop = false;
  Fiber& spinner = loop.spawn([&] {
    FdWait none = wait_for(pair.first, POLLIN);
    while (!stop) wait(none, 0);
  });
  loop.run([&] { stop = true; });
  loop.join(spinner);
}

TEST_P(PollerTest, WhatBecameReadyBeforeABusyCarrierLookedIsNoTimeout) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(one, in(2 * kMillisecond)); });
  loop.settle();
  put(pair.second);
  const Nanos late = in(4 * kMillisecond);
  while (loop.clock.now() < late) {
  }
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kReady);
  EXPECT_EQ(one.revents, POLLIN);
}

TEST_P(PollerTest, CancelEndsAWait) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(one, in(kSecond)); });
  loop.settle();
  fiber.cancel();
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kCancelled);
}

TEST_P(PollerTest, CancelBeforeTheKernelKnowsOfTheWaitEndsIt) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(one, in(kSecond)); });
  loop.carrier.yield();
  fiber.cancel();
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kCancelled);
}

TEST_P(PollerTest, ACancelledFiberDoesNotEvenBeginToWait) {
  FdPair pair = socket_pair();
  loop.run([&] {
    Fiber& self = *Carrier::running_fiber();
    self.cancel();
    FdWait one = wait_for(pair.first, POLLIN);
    EXPECT_EQ(wait(one, in(kSecond)), Wake::kCancelled);
    EXPECT_EQ(wait(one, 0), Wake::kCancelled);
    self.clear_cancel();
    // The deadline of the wait before must not strike this one.
    EXPECT_EQ(loop.carrier.pending_timers(), 0u);
    put(pair.second);
    EXPECT_EQ(wait(one), Wake::kReady);
  });
}

TEST_P(PollerTest, AWaitThatIsNotCancellableGoesOn) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(one, kNever, kUninterruptible); });
  loop.settle();
  fiber.cancel();
  fiber.interrupt(false);
  loop.settle();
  EXPECT_FALSE(fiber.done());
  put(pair.second);
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kReady);
}

TEST_P(PollerTest, CancelAndReadinessAtOnceGiveOneWake) {
  FdPair pair = socket_pair();
  for (const bool cancel_first : {true, false}) {
    FdWait one = wait_for(pair.first, POLLIN);
    Wake wake{};
    Fiber& fiber = loop.spawn([&] { wake = wait(one); });
    loop.settle();
    put(pair.second);
    if (!cancel_first) loop.poller->poll(0);
    fiber.cancel();
    if (cancel_first) loop.poller->poll(0);
    loop.join(fiber);
    EXPECT_EQ(wake, cancel_first ? Wake::kCancelled : Wake::kReady);
    drain(pair.first);
  }
}

// What woke the kernel's poll was taken by somebody else before the poll could complete.
TEST_P(PollerTest, CancelAfterAWakeUpThatCameToNothing) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(one); });
  loop.settle();
  put(pair.second);
  drain(pair.first);
  fiber.cancel();
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kCancelled);
}

TEST_P(PollerTest, ASignalHandlerEndsAWait) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Wake wake{};
  Fiber& fiber = loop.spawn([&] { wake = wait(one); });
  loop.settle();
  EXPECT_TRUE(fiber.interrupt(false));
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kInterrupted);
}

TEST_P(PollerTest, ANativeThreadInterruptsAPollThatBlocks) {
  std::atomic<bool> ran{false};
  InboxNode node;
  node.owner = &ran;
  node.run = [](InboxNode& posted, Carrier&) noexcept { static_cast<std::atomic<bool>*>(posted.owner)->store(true); };
  std::thread poster;
  loop.run([&] {
    FdPair pair = socket_pair();
    FdWait one = wait_for(pair.first, POLLIN);
    poster = std::thread([&] {
      loop.carrier.post(node);
      while (!ran) std::this_thread::yield();
      put(pair.second);
    });
    EXPECT_EQ(wait(one), Wake::kReady);
    poster.join();
  });
  EXPECT_TRUE(ran);
}

TEST_P(PollerTest, AnInterruptBeforeThePollIsNotLost) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  loop.settle();
  for (int i = 0; i < 3; ++i) {
    loop.poller->interrupt();
    loop.poller->poll(kNever);
    loop.poller->interrupt();
    loop.poller->poll(0);  // must not use it up
    loop.poller->poll(kNever);
  }
  put(pair.second);
  loop.join(fiber);
}

TEST_P(PollerTest, ASpentInterruptIsSpent) {
  loop.poller->interrupt();
  loop.poller->poll(kNever);
  // The kernel may interrupt a poll for reasons of its own (a ring of a test before is being dismantled), but not each.
  int whole = 0;
  for (int i = 0; i < 20; ++i) {
    const Nanos until = in(kMillisecond);
    loop.poller->poll(kMillisecond);
    whole += loop.clock.now() >= until;
  }
  EXPECT_GE(whole, 10);
}

TEST_P(PollerTest, HasEventsTellsWhetherPollingWouldHelp) {
  FdPair pair = socket_pair();
  FdWait one = wait_for(pair.first, POLLIN);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  loop.settle();
  const auto asked_elsewhere = [&] {
    bool answer = false;
    std::thread([&] { answer = loop.poller->has_events(); }).join();
    return answer;
  };
  EXPECT_FALSE(asked_elsewhere());
  put(pair.second);
  EXPECT_TRUE(asked_elsewhere());
  loop.join(fiber);
  EXPECT_FALSE(asked_elsewhere());
}

TEST_P(PollerTest, AnUnsubmittedWaitOnSomethingReadyCountsAsEvent) {
  FdPair pair = socket_pair();
  put(pair.second);
  FdWait one = wait_for(pair.first, POLLIN);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  loop.carrier.yield();
  EXPECT_TRUE(loop.poller->has_events());
  loop.join(fiber);
}

TEST_P(PollerTest, ABusyCarrierStillSeesEvents) {
  FdPair pair = socket_pair();
  put(pair.second);
  bool stop = false;
  Fiber& busy = loop.spawn([&] {
    while (!stop) loop.carrier.yield();
  });
  FdWait one = wait_for(pair.first, POLLIN);
  loop.run([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  stop = true;
  loop.join(busy);
}

TEST_P(PollerTest, ARegularFileIsReadyAtOnce) {
  const int file = ::memfd_create("weft", MFD_CLOEXEC);
  FILE* disk = ::tmpfile();
  for (const int fd : {file, ::fileno(disk)}) {
    FdWait both = wait_for(fd, POLLIN | POLLOUT);
    loop.run([&] { EXPECT_EQ(wait(both), Wake::kReady); });
    EXPECT_EQ(both.revents, POLLIN | POLLOUT);
    FdWait in = wait_for(fd, POLLIN);
    loop.run([&] { EXPECT_EQ(wait(in), Wake::kReady); });
    EXPECT_EQ(in.revents, POLLIN);
  }
  close_routed(file);
  Poller::closing(::fileno(disk));
  ::fclose(disk);
}

TEST_P(PollerTest, ADescriptorThatIsNotOpenIsInvalid) {
  FdPair pair = socket_pair();
  const int number = pair.first;
  close_routed(std::exchange(pair.first, -1));
  FdWait one = wait_for(number, POLLIN);
  loop.run([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  EXPECT_EQ(one.revents, POLLNVAL);
  loop.run([&] { EXPECT_EQ(wait(one, 0), Wake::kReady); });
  EXPECT_EQ(one.revents, POLLNVAL);
}

TEST_P(PollerTest, NegativeDescriptorsAreIgnored) {
  FdPair pair = socket_pair();
  std::array waits{wait_for(-1, POLLIN), wait_for(pair.first, POLLIN), wait_for(-7, POLLOUT)};
  put(pair.second);
  loop.run([&] { EXPECT_EQ(loop.poller->wait(waits, kNever, kCancellable, "poll"), Wake::kReady); });
  EXPECT_EQ(waits[0].revents, 0);
  EXPECT_EQ(waits[1].revents, POLLIN);
  EXPECT_EQ(waits[2].revents, 0);
}

TEST_P(PollerTest, AWaitForNothingIsASleep) {
  loop.run([&] {
    EXPECT_EQ(loop.poller->wait(std::span<FdWait>{}, in(kMillisecond), kCancellable, "poll"), Wake::kTimeout);
  });
}

TEST_P(PollerTest, Pipes) {
  FdPair pair = pipe_pair();
  FdWait in = wait_for(pair.first, POLLIN), out = wait_for(pair.second, POLLOUT);
  loop.run([&] { EXPECT_EQ(wait(out), Wake::kReady); });
  EXPECT_EQ(out.revents, POLLOUT);
  Fiber& reader = loop.spawn([&] { EXPECT_EQ(wait(in), Wake::kReady); });
  loop.settle();
  fill(pair.second);
  loop.join(reader);
  EXPECT_EQ(in.revents, POLLIN);
  Fiber& writer = loop.spawn([&] { EXPECT_EQ(wait(out), Wake::kReady); });
  loop.settle();
  EXPECT_FALSE(writer.done());
  drain(pair.first);
  loop.join(writer);
}

TEST_P(PollerTest, Terminals) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master), 0);
  ASSERT_EQ(::unlockpt(master), 0);
  const int terminal = ::open(::ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(terminal, 0);
  FdWait line = wait_for(terminal, POLLIN);
  Fiber& reader = loop.spawn([&] { EXPECT_EQ(wait(line), Wake::kReady); });
  loop.settle();
  put(master);
  loop.settle();
  EXPECT_FALSE(reader.done());  // half a line
  ASSERT_EQ(::write(master, "\n", 1), 1);
  loop.join(reader);
  EXPECT_EQ(line.revents, POLLIN);
  close_routed(terminal);
  FdWait hang_up = wait_for(master, POLLOUT | POLLIN);
  loop.run([&] { EXPECT_EQ(wait(hang_up), Wake::kReady); });
  EXPECT_EQ(hang_up.revents & POLLHUP, POLLHUP);
  close_routed(master);
}

TEST_P(PollerTest, AnEpollSetCanBeWaitedFor) {
  FdPair pair = socket_pair();
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {.fd = pair.first}};
  ASSERT_EQ(::epoll_ctl(set, EPOLL_CTL_ADD, pair.first, &event), 0);
  FdWait one = wait_for(set, POLLIN);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  loop.settle();
  EXPECT_FALSE(fiber.done());
  put(pair.second);
  loop.join(fiber);
  EXPECT_EQ(one.revents, POLLIN);
  close_routed(set);
}

TEST_P(PollerTest, FiveHundredDescriptorsAtOnce) {
  constexpr int kCount = 500;
  std::vector<FdPair> pairs(kCount);
  std::vector<FdWait> waits(kCount);
  for (int i = 0; i < kCount; ++i) {
    pairs[i].first = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT_GE(pairs[i].first, 0);
    waits[i] = wait_for(pairs[i].first, POLLIN);
  }
  for (const int ready : {0, 499, 250}) {
    Wake wake{};
    Fiber& fiber = loop.spawn([&] { wake = loop.poller->wait(waits, kNever, kCancellable, "poll"); });
    loop.settle();
    EXPECT_FALSE(fiber.done());
    ASSERT_EQ(::eventfd_write(pairs[ready].first, 1), 0);
    loop.join(fiber);
    EXPECT_EQ(wake, Wake::kReady);
    for (int i = 0; i < kCount; ++i) ASSERT_EQ(waits[i].revents, i == ready ? POLLIN : 0) << i;
    eventfd_t value;
    ASSERT_EQ(::eventfd_read(pairs[ready].first, &value), 0);
  }
}

TEST_P(PollerTest, OneDescriptorTwiceInOneWait) {
  FdPair pair = socket_pair();
  std::array waits{wait_for(pair.first, POLLIN), wait_for(pair.first, POLLIN | POLLPRI)};
  Fiber& fiber = loop.spawn(
      [&] { EXPECT_EQ(loop.poller->wait(waits, kNever, kCancellable, "poll"), Wake::kReady); });
  loop.settle();
  put(pair.second);
  loop.join(fiber);
  EXPECT_EQ(waits[0].revents | waits[1].revents, POLLIN);
}

TEST_P(PollerTest, TenThousandWaitsOnOneCarrier) {
  constexpr int kDescriptors = 100;
  std::vector<FdPair> pairs(kDescriptors);
  for (FdPair& pair : pairs) pair.first = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
#if defined(__SANITIZE_THREAD__)
  const int count = 2000;  // ThreadSanitizer allows about 8,000 fibers
#else
  const int count = 10000;
#endif
  int ready = 0, timed_out = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < count; ++i)
    fibers.push_back(&loop.spawn([&, i] {
      FdWait one = wait_for(pairs[i % kDescriptors].first, POLLIN);
      const Wake wake = wait(one, i % 3 == 0 ? in(kMillisecond) : kNever);
      ready += wake == Wake::kReady;
      timed_out += wake == Wake::kTimeout;
    }));
  while (timed_out < (count + 2) / 3) loop.carrier.sleep_until(in(kMillisecond), kUninterruptible, "test");
  for (FdPair& pair : pairs) ASSERT_EQ(::eventfd_write(pair.first, 1), 0);
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(ready + timed_out, count);
}

TEST_P(PollerTest, PriorityDataIsToldFromOther) {
  int fds[2];
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  fds[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::connect(fds[0], reinterpret_cast<sockaddr*>(&address), length), 0);
  fds[1] = ::accept(listener, nullptr, nullptr);
  FdWait urgent = wait_for(fds[1], POLLPRI);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(urgent), Wake::kReady); });
  loop.settle();
  put(fds[0]);
  loop.settle();
  EXPECT_FALSE(fiber.done());
  ASSERT_EQ(::send(fds[0], "!", 1, MSG_OOB), 1);
  loop.join(fiber);
  EXPECT_EQ(urgent.revents, POLLPRI);
  for (const int fd : {listener, fds[0], fds[1]}) close_routed(fd);
}

class PollerMakingTest : public OnEveryBackend {};
WEFT_ON_EVERY_BACKEND(PollerMakingTest);

TEST_P(PollerMakingTest, LeavesNoDescriptorBehind) {
  const int before = open_descriptors();
  for (int i = 0; i < 100; ++i) {
    PollLoop loop(GetParam());
    FdPair pair = socket_pair();
    loop.run([&] { loop.poller->wait(pair.first, POLLIN, 0, kCancellable, "test"); });
    loop.run([&] { loop.poller->wait(pair.first, POLLOUT, kNever, kCancellable, "test"); });
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_P(PollerMakingTest, LeavesNothingBehindWhenDescriptorsRunOut) {
  const int before = open_descriptors();
  rlimit old_limit;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  int failures = 0;
  bool made = false;
  for (rlim_t limit = 0; !made && limit < old_limit.rlim_cur; ++limit) {
    const rlimit tight{limit, old_limit.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    auto poller = Poller::create(GetParam());
    const int error = errno;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old_limit), 0);
    made = poller != nullptr;
    if (made) continue;
    ++failures;
    ASSERT_EQ(error, EMFILE);
    ASSERT_EQ(open_descriptors(), before);
  }
  EXPECT_TRUE(made);
  EXPECT_GT(failures, 1);
  EXPECT_EQ(open_descriptors(), before);
}

TEST_P(PollerMakingTest, AFileOpenedInTheMeantimeTakesALowNumber) {
  const int probe = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(probe);
  PollLoop loop(GetParam());
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(fd, probe);
  ::close(fd);
}

TEST_P(PollerMakingTest, CanBeMadeOnAThreadThatDoesNotUseIt) {
  std::unique_ptr<Poller> poller = Poller::create(GetParam());
  std::thread([&] {
    MonotonicClock clock;
    Carrier carrier(clock, *poller);
    ASSERT_TRUE(carrier.attach());
    FdPair pair = socket_pair();
    EXPECT_EQ(poller->wait(pair.first, POLLOUT, kNever, kCancellable, "test"), Wake::kReady);
    carrier.detach();
  }).join();
}

TEST(PollerKindTest, AutomaticChoiceSaysWhy) {
  std::string why;
  const auto poller = Poller::create(Backend::kAuto, &why);
  ASSERT_NE(poller, nullptr);
  EXPECT_NE(why.find(to_string(poller->backend())), std::string::npos) << why;
}

}  // namespace
}  // namespace weft
