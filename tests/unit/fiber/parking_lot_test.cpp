#include "fiber/parking_lot.hpp"

#include <random>

#include "fixture.hpp"

namespace weft::engine::test {
namespace {

class Lot : public FiberTest {
 protected:
  // Waits at `address`; the predicate is checked under the queue's lock.
  Wake park(const void* address, Nanos deadline = kNever, uint8_t flags = kUninterruptible) {
    return lot.park(address, deadline, flags, {WaitKind::kLock, "test", address}, [] { return true; });
  }
  // They wait at `word`, and note their numbers once they are woken.
  std::vector<Fiber*> start_waiters(int& word, int count) {
    std::vector<Fiber*> fibers;
    for (int i = 0; i < count; ++i)
      fibers.push_back(spawn([this, &word, i] {
        EXPECT_EQ(park(&word), Wake::kReady);
        note(std::to_string(i));
      }));
    carrier.yield();
    return fibers;
  }
  // Native threads are waiting at `word` once this many of them are: each counts itself under the queue's
  // lock.
  void park_counted(std::atomic<int>& queued, const void* address) {
    lot.park(address, kNever, kUninterruptible, {}, [&] {
      ++queued;
      return true;
    });
  }
  void await(const std::atomic<int>& value, int expected) {
    while (value.load() != expected) std::this_thread::yield();
  }
  ParkingLot& lot = ParkingLot::instance();
};

TEST_F(Lot, WakesInTheOrderOfArrival) {
  int word = 0;
  const std::vector<Fiber*> fibers = start_waiters(word, 5);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(lot.wake_one(&word), 1);
  EXPECT_EQ(lot.wake_one(&word), 0);
  Engine::join(fibers);
  EXPECT_EQ(log, (Log{"0", "1", "2", "3", "4"}));
}

TEST_F(Lot, AThreadMayWakeTheNewest) {
  int word = 0;
  const std::vector<Fiber*> fibers = start_waiters(word, 5);
  for (const bool newest : {true, false, true, true, true}) {
    thread_state().wakes_newest = newest;
    EXPECT_EQ(lot.wake_one(&word), 1);
    thread_state().wakes_newest = false;
    engine.settle();
  }
  Engine::join(fibers);
  EXPECT_EQ(log, (Log{"4", "0", "3", "2", "1"}));
}

TEST_F(Lot, WakeWakesAsManyAsAsked) {
  int word = 0;
  const std::vector<Fiber*> fibers = start_waiters(word, 5);
  EXPECT_EQ(lot.wake(&word, 3), 3);
  engine.settle();
  EXPECT_EQ(log, (Log{"0", "1", "2"}));
  EXPECT_EQ(lot.wake_all(&word), 2);
  Engine::join(fibers);
}

TEST_F(Lot, FrontOfQueueGoesBeforeThoseWhoWait) {
  int word = 0;
  std::vector<Fiber*> fibers;
  for (const auto& [name, flags] : {std::pair{"first", kUninterruptible},
                                    {"second", kUninterruptible},
                                    {"front", kFrontOfQueue},
                                    {"before", kFrontOfQueue}})
    fibers.push_back(spawn([&, name = name, flags = flags] {
      park(&word, kNever, flags);
      note(name);
    }));
  Fiber* last = spawn([&] {
    park(&word);
    note("last");
  });
  carrier.yield();
  EXPECT_EQ(lot.wake_all(&word), 5);
  Engine::join(fibers);
  Engine::join(last);
  EXPECT_EQ(log, (Log{"before", "front", "first", "second", "last"}));
}

TEST_F(Lot, FalseFromValidateMeansNoWait) {
  int word = 0;
  bool before_called = false;
  EXPECT_EQ(lot.park(
                &word, kNever, kUninterruptible, {}, [] { return false; }, [&] { before_called = true; }),
            Wake::kReady);
  EXPECT_FALSE(before_called);
  EXPECT_EQ(lot.wake_one(&word), 0);
}

TEST_F(Lot, BeforeIsCalledOnceQueuedAndMayWakeOthers) {
  int word = 0, other_word = 0;
  Fiber* other = spawn([&] {
    park(&other_word);
    note("other");
    EXPECT_EQ(lot.wake_one(&word), 1);
  });
  carrier.yield();
  EXPECT_EQ(lot.park(
                &word, kNever, kUninterruptible, {}, [] { return true; }, [&] { lot.wake_one(&other_word); }),
            Wake::kReady);
  Engine::join(other);
}

TEST_F(Lot, WakeFromWithinBeforeIsNotLost) {
  int word = 0;
  EXPECT_EQ(lot.park(
                &word, kNever, kUninterruptible, {}, [] { return true; },
                [&] { EXPECT_EQ(lot.wake_one(&word), 1); }),
            Wake::kReady);
}

TEST_F(Lot, AddressesOfOneBucketAreKeptApart) {
  // The lot looks at addresses only, so these need not be mapped. They fall into one bucket of the table's
  // present hash.
  const uintptr_t base = uintptr_t{1} << 40;
  const auto* a = reinterpret_cast<const void*>(base);
  const auto* b = reinterpret_cast<const void*>(base ^ (uintptr_t{1} << 22) ^ (uintptr_t{1} << 4));
  const auto* c = reinterpret_cast<const void*>(base ^ (uintptr_t{2} << 22) ^ (uintptr_t{2} << 4));
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 3; ++i)
    for (const auto& [address, name] : {std::pair{a, "a"}, {b, "b"}, {c, "c"}})
      fibers.push_back(spawn([&, address = address, name = std::string(name) + std::to_string(i)] {
        park(address);
        note(name);
      }));
  carrier.yield();
  EXPECT_EQ(lot.wake_one(b), 1);
  EXPECT_EQ(lot.wake_all(c), 3);
  EXPECT_EQ(lot.wake_all(c), 0);
  EXPECT_EQ(lot.wake_all(a), 3);
  EXPECT_EQ(lot.wake_all(b), 2);
  Engine::join(fibers);
  EXPECT_EQ(log, (Log{"b0", "c0", "c1", "c2", "a0", "a1", "a2", "b1", "b2"}));
}

TEST_F(Lot, TimeoutLeavesTheQueueInOrderWhereverItStood) {
  int word = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 6; ++i)
    fibers.push_back(spawn([&, i] {
      // First, middle and last time out.
      const Nanos deadline = i % 5 == 0 || i == 2 ? carrier.now() + kSecond : kNever;
      note(std::to_string(i) + (park(&word, deadline) == Wake::kTimeout ? " late" : ""));
    }));
  carrier.sleep_until(carrier.now() + 2 * kSecond, kUninterruptible, "sleep");
  fibers.push_back(spawn([&] {
    park(&word);
    note("new");
  }));
  carrier.yield();
  EXPECT_EQ(lot.wake_all(&word), 4);
  Engine::join(fibers);
  EXPECT_EQ(log, (Log{"0 late", "2 late", "5 late", "1", "3", "4", "new"}));
  EXPECT_EQ(lot.wake_all(&word), 0);
}

TEST_F(Lot, CancelAndInterruptLeaveTheQueue) {
  int word = 0;
  std::vector<Wake> wakes;
  Fiber* cancelled = spawn([&] { wakes.push_back(park(&word, kNever, kCancellable)); });
  Fiber* interrupted = spawn([&] { wakes.push_back(park(&word, kNever, kInterruptible)); });
  Fiber* stubborn = spawn([&] { wakes.push_back(park(&word)); });
  carrier.yield();
  cancelled->cancel();
  stubborn->cancel();
  EXPECT_TRUE(interrupted->interrupt(false));
  EXPECT_FALSE(stubborn->interrupt(false));
  engine.settle();
  EXPECT_EQ(wakes, (std::vector{Wake::kCancelled, Wake::kInterrupted}));
  EXPECT_EQ(lot.wake_all(&word), 1);
  Engine::join({cancelled, interrupted, stubborn});
  EXPECT_EQ(wakes.back(), Wake::kReady);
}

TEST_F(Lot, WakeGoesToTheNextWhenTheFirstWasCancelledMeanwhile) {
  int word = 0;
  std::vector<Wake> wakes(2);
  Fiber* first = spawn([&] { wakes[0] = park(&word, kNever, kCancellable); });
  Fiber* second = spawn([&] { wakes[1] = park(&word); });
  carrier.yield();
  first->cancel();  // it is still queued: it leaves the queue when it runs
  EXPECT_EQ(lot.wake_one(&word), 1);
  Engine::join({first, second});
  EXPECT_EQ(wakes, (std::vector{Wake::kCancelled, Wake::kReady}));
}

TEST_F(Lot, NativeThreadsAndFibersShareOneQueue) {
  int word = 0;
  std::atomic<int> queued{0}, woken{0};
  const auto next = [&](int expected) {
    // One at a time: the order of wakes is that of arrival, whatever the kind.
    EXPECT_EQ(lot.wake_one(&word), 1);
    while (woken.load() < expected) {
      carrier.yield();
      std::this_thread::yield();
    }
  };
  std::vector<int> order(4);
  const auto arrive = [&](int number) { order[static_cast<size_t>(woken++)] = number; };
  std::thread first([&] {
    park_counted(queued, &word);
    arrive(0);
  });
  await(queued, 1);
  Fiber* second = spawn([&] {
    park_counted(queued, &word);
    arrive(1);
  });
  carrier.yield();
  std::thread third([&] {
    park_counted(queued, &word);
    arrive(2);
  });
  await(queued, 3);
  Fiber* fourth = spawn([&] {
    park_counted(queued, &word);
    arrive(3);
  });
  carrier.yield();
  for (int i = 1; i <= 4; ++i) next(i);
  first.join();
  third.join();
  Engine::join({second, fourth});
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
}

TEST_F(Lot, NativeThreadTimesOutAndLeavesTheQueue) {
  int word = 0;
  std::thread thread([&] { EXPECT_EQ(park(&word, monotonic_now() + kMillisecond), Wake::kTimeout); });
  thread.join();
  EXPECT_EQ(lot.wake_all(&word), 0);
}

TEST_F(Lot, FiberThatMayNotSwitchBlocksItsThreadInstead) {
  int word = 0;
  std::atomic<int> queued{0};
  const uint64_t switches = carrier.switch_count();
  std::thread waker([&] {
    await(queued, 1);
    EXPECT_EQ(lot.wake_one(&word), 1);
  });
  {
    NoSwitchScope scope;
    park_counted(queued, &word);
  }
  EXPECT_EQ(carrier.switch_count(), switches);
  waker.join();
}

TEST_F(Lot, BroadcastWakesTenThousand) {
  const int kFibers = kThreadSanitizer ? 2000 : 10'000;
  int word = 0, woken = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < kFibers; ++i)
    fibers.push_back(spawn([&, i] {
      EXPECT_EQ(park(&word), Wake::kReady);
      EXPECT_EQ(woken++, i);
    }));
  carrier.yield();
  EXPECT_EQ(lot.wake_all(&word), kFibers);
  Engine::join(fibers);
  EXPECT_EQ(woken, kFibers);
}

// A semaphore without mercy: every wake must be taken by exactly one waiter, whatever times out in between.
// Tokens are counted at the end.
TEST_F(Lot, NoWakeIsLostToTimeouts) {
  const int kTokens = 20'000, kFibers = 20, kThreads = 2;
  std::atomic<int> tokens{0}, taken{0}, finished{0};
  const auto try_take = [&] {
    int have = tokens.load();
    while (have > 0)
      if (tokens.compare_exchange_weak(have, have - 1)) return true;
    return false;
  };
  // Takes a token, waiting a little for it, often in vain.
  const auto take = [&](Nanos patience, Nanos now) {
    if (try_take()) return ++taken, true;
    const Wake wake = lot.park(&tokens, now + patience, kCancellable, {}, [&] { return tokens.load() == 0; });
    if (wake != Wake::kReady) return false;
    if (try_take()) return ++taken, true;
    return false;
  };
  std::vector<Fiber*> fibers;
  for (int f = 0; f < kFibers; ++f)
    fibers.push_back(spawn([&, f] {
      std::minstd_rand random(static_cast<unsigned>(f + 1));
      while (taken.load() < kTokens) {
        take(static_cast<Nanos>(random() % 3), carrier.now());
        engine.clock.advance(1);
        carrier.yield();
      }
      ++finished;
      lot.wake_all(&tokens);
    }));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      std::minstd_rand random(static_cast<unsigned>(100 + t));
      while (taken.load() < kTokens)
        take(static_cast<Nanos>(random() % (20 * kMicrosecond)), monotonic_now());
      ++finished;
    });
  std::thread giver([&] {
    for (int i = 0; i < kTokens; ++i) {
      ++tokens;
      lot.wake_one(&tokens);
    }
    while (finished.load() < kFibers + kThreads) {
      lot.wake_all(&tokens);
      std::this_thread::yield();
    }
  });
  Engine::join(fibers);
  for (auto& thread : threads) thread.join();
  giver.join();
  EXPECT_EQ(taken.load(), kTokens);
  EXPECT_EQ(tokens.load(), 0);
  EXPECT_EQ(lot.wake_all(&tokens), 0);
}

// wake() reports how many it woke, and so many waits end as woken: none twice, none lost.
TEST_F(Lot, WakesReportedAreWakesReceived) {
  constexpr int kFibers = 30, kRounds = 300, kThreads = 2, kThreadRounds = 5'000;
  int word = 0;
  std::atomic<int> received{0}, threads_left{kThreads};
  std::atomic<bool> stop{false};
  std::vector<Fiber*> fibers;
  for (int f = 0; f < kFibers; ++f)
    fibers.push_back(spawn([&] {
      for (int r = 0; r < kRounds; ++r) {
        received += park(&word, carrier.now() + 1, kCancellable) == Wake::kReady;
        carrier.yield();
      }
    }));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      // A deadline that has passed: the kernel says so at once, while the waker is on its way.
      for (int r = 0; r < kThreadRounds; ++r) received += park(&word, monotonic_now()) == Wake::kReady;
      --threads_left;
    });
  int64_t reported = 0;
  std::thread waker([&] {
    while (!stop.load() || threads_left.load() > 0) reported += lot.wake(&word, 3);
  });
  Engine::join(fibers);
  stop = true;
  for (auto& thread : threads) thread.join();
  waker.join();
  EXPECT_EQ(reported, received.load());
}

}  // namespace
}  // namespace weft::engine::test
