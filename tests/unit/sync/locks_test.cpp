// Locks, events and counters, between fibers, native threads and carriers.
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "library.hpp"

namespace weft::test {
namespace {

class Locks : public Library {
 protected:
  // Runs `body` in `fibers` fibers on two carriers and in two native threads.
  template <typename Body>
  static void everywhere(int fibers, Body&& body) {
    Runtime runtime({.carriers = 2});
    std::vector<Fiber<>> all;
    for (int i = 0; i < fibers; ++i) all.push_back(spawn([&] { body(); }, {.carrier = i % 2}));
    std::vector<std::thread> natives;
    for (int i = 0; i < 2; ++i) natives.emplace_back([&] { body(); });
    for (auto& fiber : all) fiber.result();
    offload([&] {
      for (auto& native : natives) native.join();
    });
  }
};

TEST_F(Locks, MutexExcludes) {
  Mutex mutex;
  long count = 0;
  everywhere(8, [&] {
    for (int i = 0; i < 2000; ++i) {
      std::unique_lock lock(mutex);
      const long seen = count;
      if (i % 50 == 0 && this_fiber::exists()) this_fiber::yield();
      count = seen + 1;
    }
  });
  EXPECT_EQ(count, 10 * 2000);
}

TEST_F(Locks, MutexTimedTry) {
  Mutex mutex;
  mutex.lock();
  bool tried = false;
  auto fiber = spawn([&] {
    EXPECT_FALSE(mutex.try_lock());
    EXPECT_FALSE(mutex.try_lock_for(1ms));
    EXPECT_FALSE(mutex.try_lock_for(-1ms));
    EXPECT_FALSE(mutex.try_lock_until(std::chrono::system_clock::now() + 1ms));
    tried = true;
    EXPECT_TRUE(mutex.try_lock_for(10s));
    mutex.unlock();
  });
  until([&] { return tried; });
  until_parked(fiber);
  mutex.unlock();
  fiber.result();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST_F(Locks, MutexIsNoCancellationPoint) {
  Mutex mutex;
  mutex.lock();
  bool locked = false;
  auto fiber = spawn([&] {
    std::unique_lock lock(mutex);
    locked = true;
    this_fiber::check();
  });
  until_parked(fiber);
  fiber.cancel();
  this_fiber::yield();
  EXPECT_FALSE(locked);
  mutex.unlock();
  EXPECT_THROW(fiber.result(), Cancelled);
  EXPECT_TRUE(locked);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST(LocksDeath, UnlockOfAFreeMutexEndsTheProgram) {
  EXPECT_DEATH(
      {
        Mutex mutex;
        mutex.unlock();
      },
      "it was not locked");
}

TEST_F(Locks, ConditionVariableHandsOver) {
  Mutex mutex;
  ConditionVariable changed;
  int items = 0, taken = 0;
  bool over = false;
  auto producer = spawn([&] {
    for (int i = 0; i < 500; ++i) {
      std::unique_lock lock(mutex);
      ++items;
      changed.notify_one();
      if (i % 7 == 0) this_fiber::yield();
    }
    std::unique_lock lock(mutex);
    over = true;
    changed.notify_all();
  });
  std::vector<Fiber<>> consumers;
  for (int i = 0; i < 3; ++i)
    consumers.push_back(spawn([&] {
      std::unique_lock lock(mutex);
      for (;;) {
        changed.wait(lock, [&] { return items > 0 || over; });
        if (items == 0) return;
        --items;
        ++taken;
      }
    }));
  producer.result();
  for (auto& consumer : consumers) consumer.result();
  EXPECT_EQ(taken, 500);
}

TEST_F(Locks, ConditionVariableHoldsTheLockAfterATimeoutAndACancellation) {
  Mutex mutex;
  ConditionVariable never;
  std::unique_lock lock(mutex);
  EXPECT_EQ(never.wait_for(lock, 1ms), std::cv_status::timeout);
  EXPECT_TRUE(lock.owns_lock());
  EXPECT_FALSE(mutex.try_lock());
  EXPECT_FALSE(never.wait_for(lock, 1ms, [] { return false; }));
  lock.unlock();
  auto fiber = spawn([&] {
    std::unique_lock own(mutex);
    try {
      never.wait(own);
      ADD_FAILURE();
    } catch (const Cancelled&) {
      EXPECT_FALSE(mutex.try_lock());
      throw;
    }
  });
  until_parked(fiber);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST_F(Locks, SemaphoreLimits) {
  Semaphore semaphore(3);
  std::atomic<int> inside{0}, most{0};
  everywhere(10, [&] {
    for (int i = 0; i < 200; ++i) {
      Permit permit(semaphore);
      const int now = ++inside;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      if (i % 20 == 0) this_fiber::yield();
      --inside;
    }
  });
  EXPECT_LE(most, 3);
  EXPECT_EQ(semaphore.available(), 3u);
}

TEST_F(Locks, SemaphoreTimesOutAndIsCancelledWithoutLosingAPermit) {
  Semaphore semaphore(0);
  EXPECT_FALSE(semaphore.try_acquire_for(1ms));
  auto cancelled = spawn([&] { semaphore.acquire(); });
  auto lucky = spawn([&] { semaphore.acquire(); });
  until_parked(cancelled);
  until_parked(lucky);
  cancelled.cancel();
  semaphore.release();
  lucky.result();
  EXPECT_THROW(cancelled.result(), Cancelled);
  EXPECT_EQ(semaphore.available(), 0u);
  semaphore.release(5);
  EXPECT_EQ(semaphore.available(), 5u);
}

TEST_F(Locks, EventWakesAll) {
  Event event;
  EXPECT_FALSE(event.wait_for(1ms));
  std::atomic<int> woken{0};
  auto setter = spawn([&] {
    sleep(5ms);
    event.set();
  });
  everywhere(6, [&] {
    event.wait();
    ++woken;
  });
  EXPECT_EQ(woken, 8);
  setter.result();
  event.reset();
  EXPECT_FALSE(event.is_set());
}

TEST_F(Locks, EventWaiterGoesOnThoughItWasResetAtOnce) {
  Event event;
  auto waiter = spawn([&] { event.wait(); });
  until_parked(waiter);
  event.set();
  event.reset();
  EXPECT_TRUE(waiter.join_for(10s));
}

TEST_F(Locks, TimesThatHaveLongPassedAreOver) {
  using Far = std::chrono::time_point<std::chrono::system_clock>;
  const auto all = [] {
    Event event;
    Mutex mutex;
    Channel<int> channel;
    EXPECT_FALSE(event.wait_until(Far{}));
    EXPECT_FALSE(event.wait_until(Far::min()));
    EXPECT_FALSE(event.wait_for(-100000h));
    const std::lock_guard guard(mutex);
    EXPECT_FALSE(mutex.try_lock_for(-100000h));
    EXPECT_FALSE(channel.receive_for(-100000h));
  };
  spawn(all).result();
  std::thread(all).join();
}

TEST_F(Locks, LatchCountsDown) {
  Latch latch(8);
  everywhere(6, [&] { latch.arrive_and_wait(); });
  EXPECT_TRUE(latch.try_wait());
  EXPECT_THROW(latch.count_down(), std::logic_error);
  Latch other(2);
  EXPECT_FALSE(other.wait_for(1ms));
  EXPECT_THROW(other.count_down(3), std::logic_error);
}

TEST_F(Locks, BarrierLetsRoundsGoTogether) {
  constexpr int kParties = 8, kRounds = 50;
  Barrier barrier(kParties);
  std::atomic<int> arrived{0}, last{0};
  everywhere(kParties - 2, [&] {
    for (int round = 0; round < kRounds; ++round) {
      ++arrived;
      if (barrier.arrive_and_wait()) ++last;
      EXPECT_GE(arrived, (round + 1) * kParties);
    }
  });
  EXPECT_EQ(last, kRounds);
  EXPECT_THROW(Barrier(0), std::invalid_argument);
}

TEST_F(Locks, ABarrierIsLeftByACancelledPartyAsIfItHadNotCome) {
  Barrier barrier(2);
  auto leaver = spawn([&] { barrier.arrive_and_wait(); });
  until_parked(leaver);
  leaver.cancel();
  EXPECT_THROW(leaver.result(), Cancelled);
  auto stayer = spawn([&] { barrier.arrive_and_wait(); });
  until_parked(stayer);
  EXPECT_TRUE(barrier.arrive_and_wait());
  stayer.result();
}

TEST_F(Locks, SharedMutexHasManyReadersOrOneWriter) {
  SharedMutex mutex;
  std::atomic<int> readers{0}, writers{0}, most_readers{0};
  long count = 0;
  everywhere(10, [&] {
    for (int i = 0; i < 300; ++i) {
      if (i % 5 == 0) {
        std::unique_lock lock(mutex);
        EXPECT_EQ(++writers, 1);
        EXPECT_EQ(readers, 0);
        ++count;
        --writers;
      } else {
        std::shared_lock lock(mutex);
        const int now = ++readers;
        if (now > most_readers) most_readers = now;
        EXPECT_EQ(writers, 0);
        if (i % 10 == 1) this_fiber::yield();
        --readers;
      }
    }
  });
  EXPECT_EQ(count, 12 * 60);
  EXPECT_GT(most_readers, 1);
}

TEST_F(Locks, SharedMutexLetsReadersInWhenNoWriterWaits) {
  Runtime runtime({.carriers = 3});
  SharedMutex mutex;
  std::vector<Fiber<>> all;
  for (int i = 0; i < 6; ++i)
    all.push_back(spawn(
        [&, i] {
          for (int round = 0; round < 300; ++round) {
            if (i % 2)
              std::shared_lock(mutex).unlock();
            else if (round % 3 == 0 ? mutex.try_lock_for(1us) : (mutex.lock(), true))
              mutex.unlock();
          }
        },
        {.carrier = i % 3}));
  for (auto& fiber : all) fiber.result();
  EXPECT_TRUE(mutex.try_lock_shared()) << "a writer is waited for that there is not";
  mutex.unlock_shared();
}

TEST_F(Locks, AWaitingWriterKeepsNewReadersOutUntilItGivesUp) {
  SharedMutex mutex;
  mutex.lock_shared();
  auto writer = spawn([&] { EXPECT_FALSE(mutex.try_lock_for(20ms)); });
  until_parked(writer);
  EXPECT_FALSE(mutex.try_lock_shared());
  auto reader = spawn([&] { std::shared_lock lock(mutex); });
  until_parked(reader);
  writer.result();
  EXPECT_TRUE(reader.join_for(10s));
  EXPECT_TRUE(mutex.try_lock_shared_for(1ms));
  mutex.unlock_shared();
  mutex.unlock_shared();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

}  // namespace
}  // namespace weft::test
