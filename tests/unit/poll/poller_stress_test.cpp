// Many fibers that wait, write, close and cancel at random, from a seed that a failure reports.
#include <sys/resource.h>

#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

class PollerStressTest : public OnEveryBackend {
 protected:
  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(PollerStressTest);

uint32_t seed() {
  const char* given = std::getenv("WEFT_TEST_SEED");
  return given ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
}

// Every byte written is read by somebody, whatever else ends the waits; so no wake-up is lost.
TEST_P(PollerStressTest, NoWakeUpIsLost) {
  const uint32_t start = seed();
  SCOPED_TRACE("WEFT_TEST_SEED=" + std::to_string(start));
  std::mt19937 random(start);
  constexpr int kPairs = 20, kReaders = 100, kBytes = 20000;
  std::vector<FdPair> pairs;
  for (int i = 0; i < kPairs; ++i) pairs.push_back(socket_pair());
  int taken = 0;
  bool stop = false;
  std::vector<Fiber*> readers;
  for (int i = 0; i < kReaders; ++i)
    readers.push_back(&loop.spawn([&, i] {
      const int fd = pairs[i % kPairs].first;
      Fiber& self = *Carrier::running_fiber();
      while (!stop) {
        char byte;
        if (::recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
          ++taken;
          continue;
        }
        const bool limited = random() % 4 == 0;
        const Nanos deadline = limited ? loop.clock.now() + random() % (2 * kMillisecond) : kNever;
        const Wake wake = loop.poller->wait(fd, POLLIN, deadline, kCancellable | kInterruptible, "test");
        ASSERT_NE(wake, Wake::kClosed);
        ASSERT_TRUE(limited || wake != Wake::kTimeout);
        if (wake == Wake::kCancelled) self.clear_cancel();
      }
    }));
  for (int written = 0; written < kBytes;) {
    if (random() % 8 == 0) readers[random() % kReaders]->cancel();
    if (random() % 8 == 0) readers[random() % kReaders]->interrupt(false);
    if (random() % 2 == 0) loop.carrier.yield();
    if (random() % 16 == 0)
      loop.carrier.sleep_until(loop.clock.now() + 10 * kMicrosecond, kUninterruptible, "test");
    written += ::send(pairs[random() % kPairs].second, "x", 1, MSG_DONTWAIT) == 1;
  }
  while (taken < kBytes) loop.carrier.sleep_until(loop.clock.now() + kMillisecond, kUninterruptible, "test");
  stop = true;
  for (Fiber* reader : readers) {
    reader->cancel();
    loop.join(*reader);
  }
  EXPECT_EQ(taken, kBytes);
  EXPECT_EQ(loop.carrier.pending_timers(), 0u);
}

// Descriptors are closed under their waiters and their numbers reused at once. Each waiter learns of the
// close of its own file, never of another's.
TEST_P(PollerStressTest, ClosesAndReuse) {
  const uint32_t start = seed();
  SCOPED_TRACE("WEFT_TEST_SEED=" + std::to_string(start));
  std::mt19937 random(start);
  constexpr int kPairs = 16, kRounds = 3000;
  struct Place {
    FdPair pair;
    int epoch = 0;
    int waiters = 0;
  };
  std::vector<Place> places(kPairs);
  for (Place& place : places) place.pair = socket_pair();
  const int descriptors = open_descriptors();
  int closed = 0, ended = 0, spawned = 0;
  std::vector<Fiber*> fibers;
  for (int round = 0; round < kRounds; ++round) {
    Place& place = places[random() % kPairs];
    switch (random() % 4) {
      case 0:
      case 1: {
        ++spawned;
        const bool two = random() % 4 == 0;
        Place& second = places[random() % kPairs];
        const Nanos deadline = random() % 3 == 0 ? loop.clock.now() + random() % kMillisecond : kNever;
        const short events = random() % 2 ? POLLIN : POLLIN | POLLRDHUP;
        fibers.push_back(&loop.spawn([&, two, deadline, events] {
          FdWait waits[2];
          waits[0].fd = place.pair.first;
          waits[0].events = events;
          waits[1].fd = two ? second.pair.first : -1;
          waits[1].events = POLLIN;
          const int epochs = place.epoch + (two ? second.epoch : 0);
          const Wake wake = loop.poller->wait(waits, deadline, kCancellable, "test");
          const bool changed = epochs != place.epoch + (two ? second.epoch : 0);
          if (wake == Wake::kClosed) {
            EXPECT_TRUE(changed);
            EXPECT_TRUE(waits[0].revents == POLLNVAL || waits[1].revents == POLLNVAL);
            ++closed;
          }
          EXPECT_TRUE(wake != Wake::kReady || waits[0].revents != 0 || waits[1].revents != 0);
          ++ended;
        }));
        break;
      }
      case 2: {
        ++place.epoch;
        FdPair former = std::move(place.pair);
        close_routed(former.first);
        char byte;
        EXPECT_EQ(::recv(former.second, &byte, 1, MSG_DONTWAIT), 0) << "a poll keeps the file open";
        ::close(former.second);
        former.first = former.second = -1;
        place.pair = socket_pair();
        break;
      }
      case 3:
        if (!fibers.empty()) fibers[random() % fibers.size()]->cancel();
        break;
    }
    if (random() % 3 == 0) loop.carrier.yield();
    if (random() % 7 == 0) loop.settle();
  }
  for (Fiber* fiber : fibers) {
    fiber->cancel();
    loop.join(*fiber);
  }
  EXPECT_EQ(ended, spawned);
  EXPECT_GT(closed, 0);
  EXPECT_EQ(open_descriptors(), descriptors);
}

// A native thread closes while the carrier is at work.
TEST_P(PollerStressTest, ClosesFromAnotherThread) {
  constexpr int kRounds = 300;
  std::atomic<int> offered{-1};
  std::atomic<bool> stop{false};
  std::thread closer([&] {
    while (!stop) {
      const int fd = offered.exchange(-1);
      if (fd < 0)
        std::this_thread::yield();
      else
        close_routed(fd);
    }
  });
  int closed = 0;
  for (int round = 0; round < kRounds; ++round) {
    FdPair pair = socket_pair();
    const int fd = std::exchange(pair.first, -1);
    std::vector<Fiber*> fibers;
    for (int i = 0; i < 3; ++i)
      fibers.push_back(&loop.spawn([&, i] {
        FdWait one;
        one.fd = fd;
        one.events = POLLIN;
        const Nanos deadline = i == 0 ? loop.clock.now() + 20 * kMicrosecond : kNever;
        const Wake wake = loop.poller->wait({&one, 1}, deadline, kCancellable, "test");
        closed += wake == Wake::kClosed;
        EXPECT_TRUE(wake == Wake::kClosed || i == 0);
      }));
    // All wait; in half of the rounds the kernel does not know of it yet.
    if (round % 2)
      loop.settle();
    else
      loop.carrier.yield();
    offered = fd;
    for (Fiber* fiber : fibers) loop.join(*fiber);
    while (offered != -1) loop.carrier.yield();
    char byte;
    while (::recv(pair.second, &byte, 1, MSG_DONTWAIT) != 0) loop.carrier.yield();
  }
  stop = true;
  closer.join();
  EXPECT_GT(closed, 0);
}

}  // namespace
}  // namespace weft::engine
