#include "poll/poller.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

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

TEST_P(PollerTest, IsOfTheKindAskedFor) {
  EXPECT_EQ(loop.poller->backend(), GetParam());
}

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
  node.run = [](InboxNode& posted, Carrier&) noexcept {
    static_cast<std::atomic<bool>*>(posted.owner)->store(true);
  };
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
  // The kernel may interrupt a poll for reasons of its own (a ring of a test before is being dismantled), but
  // not each.
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

}  // namespace
}  // namespace weft::engine
