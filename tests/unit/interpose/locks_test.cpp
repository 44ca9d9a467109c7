#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <deque>
#include <vector>

#include "support/engine.hpp"

namespace weft::engine::interpose {
namespace {

using test::FiberThread;
using test::run_until;

class LocksTest : public test::EngineTest {};

pthread_mutex_t make_mutex(int type) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, type);
  pthread_mutex_t mutex;
  pthread_mutex_init(&mutex, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return mutex;
}

timespec in_milliseconds(clockid_t clock, long milliseconds) {
  timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += milliseconds * 1'000'000;
  time.tv_sec += time.tv_nsec / 1'000'000'000;
  time.tv_nsec %= 1'000'000'000;
  return time;
}

TEST_F(LocksTest, FibersOfOneCarrierExcludeEachOtherByEveryTypeOfMutex) {
  for (int type :
       {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP}) {
    pthread_mutex_t mutex = make_mutex(type);
    ASSERT_EQ(routed::pthread_mutex_lock(&mutex), 0);
    bool entered = false;
    FiberThread other([&] {
      EXPECT_EQ(routed::pthread_mutex_trylock(&mutex), EBUSY) << "type " << type;
      EXPECT_EQ(routed::pthread_mutex_lock(&mutex), 0);
      entered = true;
      EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
    });
    run_until([&] { return other.parked(); });
    EXPECT_FALSE(entered);
    EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
    other.join();
    EXPECT_TRUE(entered);
    EXPECT_EQ(pthread_mutex_destroy(&mutex), 0);
  }
}

TEST_F(LocksTest, ARecursiveMutexIsFreeAfterAsManyUnlocks) {
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_RECURSIVE);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(routed::pthread_mutex_lock(&mutex), 0);
  int attempts = 0, result = -1;
  FiberThread other([&] {
    do {
      result = routed::pthread_mutex_trylock(&mutex);
      ++attempts;
      routed::sched_yield();
    } while (result == EBUSY);
    EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
  });
  for (int i = 1; i <= 3; ++i) {
    run_until([&, seen = attempts] { return attempts > seen; });
    EXPECT_EQ(result, EBUSY) << "after " << i - 1 << " unlocks";
    EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
  }
  other.join();
  EXPECT_EQ(result, 0);
}

TEST_F(LocksTest, AnErrorCheckingMutexKnowsItsFiber) {
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_ERRORCHECK);
  ASSERT_EQ(routed::pthread_mutex_lock(&mutex), 0);
  EXPECT_EQ(routed::pthread_mutex_lock(&mutex), EDEADLK);
  EXPECT_EQ(routed::pthread_mutex_trylock(&mutex), EBUSY);
  FiberThread([&] { EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), EPERM); }).join();
  EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
}

TEST_F(LocksTest, ATimedLockGivesUp) {
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_NORMAL);
  ASSERT_EQ(routed::pthread_mutex_lock(&mutex), 0);
  FiberThread([&] {
    const timespec real_time = in_milliseconds(CLOCK_REALTIME, 5),
                   steady = in_milliseconds(CLOCK_MONOTONIC, 5);
    EXPECT_EQ(routed::pthread_mutex_timedlock(&mutex, &real_time), ETIMEDOUT);
    EXPECT_EQ(routed::pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &steady), ETIMEDOUT);
    const timespec invalid{0, 1'000'000'000};
    EXPECT_EQ(routed::pthread_mutex_timedlock(&mutex, &invalid), EINVAL);
  }).join();
  EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
}

TEST_F(LocksTest, FibersAndNativeThreadsExcludeEachOther) {
  constexpr int kRounds = 20'000;
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_NORMAL);
  long counter = 0;
  const auto work = [&] {
    for (int i = 0; i < kRounds; ++i) {
      routed::pthread_mutex_lock(&mutex);
      const long seen = counter;
      if (i % 64 == 0) routed::sched_yield();
      counter = seen + 1;
      routed::pthread_mutex_unlock(&mutex);
    }
  };
  std::deque<FiberThread> fibers;
  for (int i = 0; i < 4; ++i) fibers.emplace_back(work);
  std::thread native(work);
  for (FiberThread& fiber : fibers) fiber.join();
  native.join();
  EXPECT_EQ(counter, 5L * kRounds);
}

TEST_F(LocksTest, ConditionsAreSignalledAcrossFibersAndNativeThreads) {
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_NORMAL);
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  int turn = 0;
  constexpr int kRounds = 500;
  // Three players, one of them an OS thread, pass the turn round.
  const auto play = [&](int me) {
    for (int i = 0; i < kRounds; ++i) {
      routed::pthread_mutex_lock(&mutex);
      while (turn != me) EXPECT_EQ(routed::pthread_cond_wait(&condition, &mutex), 0);
      turn = (turn + 1) % 3;
      routed::pthread_cond_broadcast(&condition);
      routed::pthread_mutex_unlock(&mutex);
    }
  };
  std::thread native([&] { play(2); });
  FiberThread first([&] { play(0); }), second([&] { play(1); });
  first.join();
  second.join();
  native.join();
  EXPECT_EQ(turn, 0);
}

TEST_F(LocksTest, ASignalWakesOneWaiterInOrder) {
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_NORMAL);
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  std::vector<int> woken;
  std::deque<FiberThread> waiters;
  for (int i = 0; i < 5; ++i) {
    waiters.emplace_back([&, i] {
      routed::pthread_mutex_lock(&mutex);
      routed::pthread_cond_wait(&condition, &mutex);
      woken.push_back(i);
      routed::pthread_mutex_unlock(&mutex);
    });
    run_until([&] { return waiters.back().parked(); });
  }
  for (size_t i = 1; i <= 5; ++i) {
    EXPECT_EQ(routed::pthread_cond_signal(&condition), 0);
    run_until([&] { return woken.size() == i; });
  }
  EXPECT_EQ(woken, (std::vector{0, 1, 2, 3, 4}));
}

TEST_F(LocksTest, TimedConditionsUseTheClockOfTheirAttribute) {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_t steady, ordinary = PTHREAD_COND_INITIALIZER;
  pthread_cond_init(&steady, &attributes);
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_NORMAL);
  routed::pthread_mutex_lock(&mutex);
  const Nanos start = monotonic_now();
  timespec time = in_milliseconds(CLOCK_MONOTONIC, 20);
  EXPECT_EQ(routed::pthread_cond_timedwait(&steady, &mutex, &time), ETIMEDOUT);
  EXPECT_GE(monotonic_now() - start, 20 * kMillisecond);
  // Read as wall-clock time it would be decades past; as it is, it is decades to come.
  time = in_milliseconds(CLOCK_REALTIME, 20);
  EXPECT_EQ(routed::pthread_cond_timedwait(&ordinary, &mutex, &time), ETIMEDOUT);
  EXPECT_GE(monotonic_now() - start, 40 * kMillisecond);
  time = in_milliseconds(CLOCK_MONOTONIC, 20);
  EXPECT_EQ(routed::pthread_cond_clockwait(&ordinary, &mutex, CLOCK_MONOTONIC, &time), ETIMEDOUT);
  EXPECT_GE(monotonic_now() - start, 60 * kMillisecond);
  EXPECT_EQ(routed::pthread_cond_clockwait(&ordinary, &mutex, CLOCK_PROCESS_CPUTIME_ID, &time), EINVAL);
  EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
}

TEST_F(LocksTest, WaitingRefusesAMutexThatIsNotTheCallers) {
  pthread_mutex_t mutex = make_mutex(PTHREAD_MUTEX_ERRORCHECK);
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  ASSERT_EQ(routed::pthread_mutex_lock(&mutex), 0);
  FiberThread([&] { EXPECT_EQ(routed::pthread_cond_wait(&condition, &mutex), EPERM); }).join();
  EXPECT_EQ(routed::pthread_mutex_unlock(&mutex), 0);
}

TEST_F(LocksTest, SemaphoresArePostedAcrossFibersAndNativeThreads) {
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  std::atomic<int> taken{0};
  std::deque<FiberThread> fibers;
  for (int i = 0; i < 10; ++i)
    fibers.emplace_back([&] {
      EXPECT_EQ(routed::sem_wait(&semaphore), 0);
      ++taken;
    });
  run_until([&] { return fibers.back().parked(); });
  std::thread native([&] {
    for (int i = 0; i < 11; ++i) routed::sem_post(&semaphore);
    EXPECT_EQ(routed::sem_wait(&semaphore), 0);
    ++taken;
  });
  for (FiberThread& fiber : fibers) fiber.join();
  native.join();
  EXPECT_EQ(taken, 11);
  int value = -1;
  sem_getvalue(&semaphore, &value);
  EXPECT_EQ(value, 0);
}

TEST_F(LocksTest, ATimedSemaphoreWaitGivesUpAndRefusesNonsense) {
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  timespec time = in_milliseconds(CLOCK_REALTIME, 5);
  EXPECT_EQ(routed::sem_timedwait(&semaphore, &time), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  time = in_milliseconds(CLOCK_MONOTONIC, 5);
  EXPECT_EQ(routed::sem_clockwait(&semaphore, CLOCK_MONOTONIC, &time), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  EXPECT_EQ(routed::sem_clockwait(&semaphore, CLOCK_THREAD_CPUTIME_ID, &time), -1);
  EXPECT_EQ(errno, EINVAL);
  time.tv_nsec = -1;
  EXPECT_EQ(routed::sem_timedwait(&semaphore, &time), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(LocksTest, AProcessSharedSemaphoreIsPostedByAnotherProcess) {
  auto* semaphore = static_cast<sem_t*>(
      mmap(nullptr, sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(semaphore, MAP_FAILED);
  sem_init(semaphore, 1, 0);
  bool others_ran = false, taken = false;
  FiberThread waiter([&] {
    EXPECT_EQ(routed::sem_wait(semaphore), 0);
    taken = true;
  });
  run_until([&] { return waiter.parked(); });
  FiberThread other([&] { others_ran = true; });
  other.join();
  EXPECT_TRUE(others_ran);
  EXPECT_FALSE(taken);
  const pid_t child = fork();
  if (child == 0) {
    real::sem_post(semaphore);
    _exit(0);
  }
  waiter.join();
  EXPECT_TRUE(taken);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  munmap(semaphore, sizeof(sem_t));
}

TEST_F(LocksTest, ReadersShareAndAWriterIsAlone) {
  pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  ASSERT_EQ(routed::pthread_rwlock_rdlock(&rwlock), 0);
  FiberThread([&] {
    EXPECT_EQ(routed::pthread_rwlock_rdlock(&rwlock), 0);
    EXPECT_EQ(routed::pthread_rwlock_unlock(&rwlock), 0);
    const timespec time = in_milliseconds(CLOCK_REALTIME, 5);
    EXPECT_EQ(routed::pthread_rwlock_timedwrlock(&rwlock, &time), ETIMEDOUT);
  }).join();
  bool written = false;
  FiberThread writer([&] {
    EXPECT_EQ(routed::pthread_rwlock_wrlock(&rwlock), 0);
    written = true;
    EXPECT_EQ(routed::pthread_rwlock_unlock(&rwlock), 0);
  });
  run_until([&] { return writer.parked(); });
  EXPECT_FALSE(written);
  EXPECT_EQ(routed::pthread_rwlock_unlock(&rwlock), 0);
  writer.join();
  EXPECT_TRUE(written);
}

TEST_F(LocksTest, ABarrierHoldsFibersAndNativeThreadsUntilAllHaveCome) {
  pthread_barrier_t barrier;
  ASSERT_EQ(routed::pthread_barrier_init(&barrier, nullptr, 4), 0);
  std::atomic<int> serial{0}, arrived{0};
  const auto work = [&] {
    for (int round = 1; round <= 50; ++round) {
      ++arrived;
      if (routed::pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) ++serial;
      EXPECT_GE(arrived, 4 * round);
    }
  };
  std::thread native(work);
  { FiberThread a(work), b(work), c(work); }
  native.join();
  EXPECT_EQ(serial, 50);
  EXPECT_EQ(routed::pthread_barrier_destroy(&barrier), 0);
}

TEST_F(LocksTest, OnceParksWhoComesWhileTheFirstIsParked) {
  static int runs;
  runs = 0;
  static pthread_once_t control;
  control = PTHREAD_ONCE_INIT;
  const auto initialise = [] {
    timespec time{0, 5'000'000};
    routed::nanosleep(&time, nullptr);
    ++runs;
  };
  std::deque<FiberThread> fibers;
  for (int i = 0; i < 20; ++i)
    fibers.emplace_back([&] {
      EXPECT_EQ(routed::pthread_once(&control, initialise), 0);
      EXPECT_EQ(runs, 1);
    });
  for (FiberThread& fiber : fibers) fiber.join();
  EXPECT_EQ(runs, 1);
}

TEST_F(LocksTest, ASpinLockHeldByAParkedFiberDoesNotHang) {
  pthread_spinlock_t lock;
  pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE);
  FiberThread holder([&] {
    EXPECT_EQ(routed::pthread_spin_lock(&lock), 0);
    timespec time{0, 2'000'000};
    routed::nanosleep(&time, nullptr);
    EXPECT_EQ(pthread_spin_unlock(&lock), 0);
  });
  run_until([&] { return holder.parked(); });
  EXPECT_EQ(routed::pthread_spin_lock(&lock), 0);
  EXPECT_EQ(pthread_spin_unlock(&lock), 0);
}

TEST_F(LocksTest, AFutexReachedBySyscallParks) {
  std::atomic<uint32_t> word{0};
  EXPECT_EQ(routed::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, nullptr, nullptr, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  timespec time{0, 3'000'000};
  EXPECT_EQ(routed::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, nullptr, 0), -1);
  EXPECT_EQ(errno, ETIMEDOUT);
  FiberThread waiter([&] {
    while (word == 0) routed::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
  });
  run_until([&] { return waiter.parked(); });
  word = 1;
  EXPECT_EQ(routed::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0), 1);
  waiter.join();
}

}  // namespace
}  // namespace weft::engine::interpose
