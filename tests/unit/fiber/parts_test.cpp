// The small parts: the intrusive list, the ready queue, the futex lock, private descriptors, time arithmetic,
// raw calls, pinned calls.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "fiber/assert.hpp"
#include "fiber/futex_lock.hpp"
#include "fiber/intrusive_list.hpp"
#include "fiber/pinned_calls.hpp"
#include "fiber/private_fd.hpp"
#include "fixture.hpp"

namespace weft::engine::test {
namespace {

struct Item : ListHook {
  explicit Item(int n) : number(n) {}
  int number;
};

std::vector<int> numbers(List<Item>& list) {
  std::vector<int> seen;
  for (Item* item = list.front(); item; item = list.after(*item)) seen.push_back(item->number);
  return seen;
}

TEST(IntrusiveList, KeepsOrderAndRemovesAnything) {
  List<Item> list;
  Item one(1), two(2), three(3), zero(0);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.front(), nullptr);
  EXPECT_EQ(list.pop_front(), nullptr);
  list.push_back(one);
  list.push_back(two);
  list.push_back(three);
  list.push_front(zero);
  EXPECT_EQ(numbers(list), (std::vector{0, 1, 2, 3}));
  EXPECT_TRUE(two.linked());
  two.unlink();
  EXPECT_FALSE(two.linked());
  EXPECT_EQ(numbers(list), (std::vector{0, 1, 3}));
  three.unlink();
  zero.unlink();
  EXPECT_EQ(list.pop_front(), &one);
  EXPECT_FALSE(one.linked());
  EXPECT_TRUE(list.empty());
}

TEST(IntrusiveList, SpliceMovesAllBehindTheLast) {
  List<Item> list, other, none;
  Item one(1), two(2), three(3), four(4);
  list.splice_back(none);
  EXPECT_TRUE(list.empty());
  other.push_back(one);
  other.push_back(two);
  list.splice_back(other);
  EXPECT_TRUE(other.empty());
  other.push_back(three);
  other.push_back(four);
  list.splice_back(other);
  EXPECT_EQ(numbers(list), (std::vector{1, 2, 3, 4}));
  four.unlink();
  two.unlink();
  EXPECT_EQ(numbers(list), (std::vector{1, 3}));
  list.clear();
  EXPECT_TRUE(list.empty());
}

TEST(FutexLocks, TryLockFailsWhileHeld) {
  FutexLock lock;
  lock.lock();
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST(FutexLocks, ExcludesThreadsFromEachOther) {
  constexpr int kThreads = 4, kRounds = 50'000;
  FutexLock lock;
  int64_t counter = 0;  // not atomic: ThreadSanitizer sees whether the lock orders
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        Guard guard(lock);
        ++counter;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(counter, int64_t{kThreads} * kRounds);
}

TEST(FutexLocks, WaiterThatSleepsIsWoken) {
  FutexLock lock;
  for (int i = 0; i < 20; ++i) {
    lock.lock();
    std::atomic<int> waiter{0};
    std::thread thread([&] {
      waiter = sys::thread_id();
      lock.lock();
      lock.unlock();
    });
    // Until it is in the kernel, or has been: then unlock() must wake it.
    const auto in_futex = [&] {
      char path[64], call[32] = {};
      snprintf(path, sizeof path, "/proc/self/task/%d/syscall", waiter.load());
      const int fd = open(path, O_RDONLY);
      if (fd < 0) return false;
      const ssize_t size = read(fd, call, sizeof call - 1);
      close(fd);
      return size > 0 && atoi(call) == SYS_futex;
    };
    while (waiter == 0 || !in_futex()) std::this_thread::yield();
    lock.unlock();
    thread.join();
  }
}

TEST(FutexLocks, AForkChildFindsThemFree) {
  FutexLock lock, other;
  lock.lock();
  FutexLock::forked();
  EXPECT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock()) << "held in this process";
  lock.unlock();
  FutexLock::forked();
  other.lock();  // free, but of another generation
  EXPECT_FALSE(other.try_lock());
  // And they exclude as ever.
  std::atomic<bool> entered{false};
  std::thread thread([&] {
    other.lock();
    entered = true;
    other.unlock();
  });
  std::this_thread::yield();
  EXPECT_FALSE(entered);
  other.unlock();
  thread.join();
  EXPECT_TRUE(entered);
}

TEST(Time, SumsStayAtNever) {
  EXPECT_EQ(later(5, 7), 12);
  EXPECT_EQ(later(5, kNever), kNever);
  EXPECT_EQ(later(kNever, 0), kNever);
  EXPECT_EQ(later(kNever - 5, 6), kNever);
  EXPECT_EQ(later(kNever - 5, 4), kNever - 1);
  EXPECT_EQ(to_nanos({1, 5}), kSecond + 5);
  EXPECT_EQ(to_nanos({-1, 0}), 0);
  EXPECT_EQ(to_nanos({INT64_MAX / 2, 0}), kNever);
}

TEST(FutexEvents, InterruptBeforePollMakesItReturnAtOnce) {
  FutexEventSource events;
  events.interrupt();
  events.poll(kNever);
}

TEST(FutexEvents, InterruptFromAnotherThreadEndsAPoll) {
  for (int i = 0; i < 100; ++i) {
    FutexEventSource events;
    std::thread thread([&] { events.interrupt(); });
    events.poll(kNever);
    thread.join();
  }
}

TEST(FutexEvents, PollLastsItsTimeout) {
  FutexEventSource events;
  const Nanos start = monotonic_now();
  events.poll(2 * kMillisecond);
  EXPECT_GE(monotonic_now() - start, 2 * kMillisecond);
  events.poll(0);
}

TEST(PrivateFds, MovedHighRegisteredAndClosedOnExec) {
  const int low = dup(2);
  ASSERT_GE(low, 0);
  const int fd = make_private_fd(low);
  ASSERT_GT(fd, low);
  EXPECT_EQ(fcntl(low, F_GETFD), -1);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(is_private_fd(fd));
  EXPECT_FALSE(is_private_fd(low));
  EXPECT_FALSE(is_private_fd(fd + 1));
  EXPECT_FALSE(is_private_fd(-1));
  close_private_fd(fd);
  EXPECT_FALSE(is_private_fd(fd));
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST(PrivateFds, WalkedInOrder) {
  const int first = make_private_fd(dup(2)), second = make_private_fd(dup(2)),
            third = make_private_fd(dup(2));
  std::vector<int> seen;
  for (int fd = next_private_fd(0); fd >= 0; fd = next_private_fd(fd + 1)) seen.push_back(fd);
  EXPECT_EQ(seen, (std::vector{first, second, third}));
  close_private_fd(second);
  EXPECT_EQ(next_private_fd(first + 1), third);
  close_private_fd(first);
  close_private_fd(third);
  EXPECT_EQ(next_private_fd(0), -1);
}

TEST(PrivateFds, MinusOnePassesThrough) {
  EXPECT_EQ(make_private_fd(-1), -1);
  close_private_fd(-1);
}

TEST(PrivateFds, StayBelowALowLimit) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{100, 100};
    setrlimit(RLIMIT_NOFILE, &limit);
    const int fd = make_private_fd(dup(2));
    _exit(fd >= 36 && fd < 100 && is_private_fd(fd) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(AssertionDeathTest, NamesConditionAndPlace) {
  EXPECT_DEATH(WEFT_ASSERT(1 + 1 == 3), "weft: broken invariant: 1 \\+ 1 == 3 at .*parts_test.cpp:[0-9]+");
}

TEST(RawCalls, ReturnWhatTheKernelReturns) {
  EXPECT_EQ(sys::thread_id(), gettid());
  EXPECT_EQ(sys::call(SYS_close, -1), -EBADF);
  uint32_t word = 1;
  EXPECT_EQ(sys::futex_wait(&word, 2), -EAGAIN);
  EXPECT_EQ(sys::futex_wait(&word, 1, monotonic_now()), -ETIMEDOUT);
}

const char* innermost(PinnedCalls& calls) {
  const char* name = nullptr;
  calls.look([&](const PinnedCall& call) { name = call.name; });
  return name;
}

TEST(PinnedCalls, AreSeenFromTheInnermostOn) {
  PinnedCalls calls;
  PinnedCall outer, inner;
  outer.name = "outer";
  inner.name = "inner";
  EXPECT_EQ(innermost(calls), nullptr);
  calls.enter(outer);
  EXPECT_STREQ(innermost(calls), "outer");
  calls.enter(inner);
  EXPECT_STREQ(innermost(calls), "inner");
  calls.leave(inner);
  EXPECT_STREQ(innermost(calls), "outer");
  calls.leave(outer);
  EXPECT_EQ(innermost(calls), nullptr);
}

TEST(PinnedCalls, DoNotReturnWhileSomebodyLooks) {
  PinnedCalls calls;
  PinnedCall call;
  calls.enter(call);
  std::atomic<bool> leaving{false}, left{false}, left_early{false};
  std::thread maker;
  calls.look([&](const PinnedCall&) {
    maker = std::thread([&] {
      leaving = true;
      calls.leave(call);
      left = true;
    });
    const Nanos begin = monotonic_now();
    while (!leaving || monotonic_now() < begin + 5 * kMillisecond) left_early = left_early || left;
  });
  maker.join();
  EXPECT_FALSE(left_early);
  EXPECT_EQ(innermost(calls), nullptr);
}

TEST(PinnedCalls, AreForgottenByJumpsOverThem) {
  PinnedCalls calls;
  alignas(64) char place[64];
  const Fiber& fiber = reinterpret_cast<const Fiber&>(place);  // only its address counts
  PinnedCall outer, inner;
  outer.fiber = inner.fiber = &fiber;
  outer.name = "outer";
  outer.site.rsp = 2000;
  inner.site.rsp = 1000;
  calls.enter(outer);
  calls.enter(inner);
  calls.forget(fiber, 1500);
  EXPECT_STREQ(innermost(calls), "outer");
  calls.forget(fiber, 2500);
  EXPECT_EQ(innermost(calls), nullptr);
}

}  // namespace
}  // namespace weft::engine::test
