#include "poll/offload_pool.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

class OffloadPoolTest : public OnEveryBackend {
 protected:
  // A pool thread wakes the carrier after it made the fiber ready: the carrier must live until then.
  ~OffloadPoolTest() override {
    while (pool.busy_threads() > 0) std::this_thread::yield();
  }
  PollLoop loop{GetParam()};
  OffloadPool& pool = OffloadPool::instance();
};
WEFT_ON_EVERY_BACKEND(OffloadPoolTest);

// Before those that let the pool grow to its limit.
TEST_P(OffloadPoolTest, AnIdleThreadIsUsedAgain) {
  loop.run([&] { pool.run("test", []() noexcept {}); });
  while (pool.busy_threads() > 0) std::this_thread::yield();
  const int threads = pool.threads();
  for (int i = 0; i < 100; ++i) {
    loop.run([&] { pool.run("test", []() noexcept {}); });
    while (pool.busy_threads() > 0) std::this_thread::yield();
  }
  EXPECT_EQ(pool.threads(), threads);
}

TEST_P(OffloadPoolTest, RunsOnAnotherThreadWhileTheCarrierGoesOn) {
  std::thread::id where;
  std::atomic<bool> go{false};
  Fiber& fiber = loop.spawn([&] {
    pool.run("getaddrinfo", [&]() noexcept {
      where = std::this_thread::get_id();
      while (!go) std::this_thread::yield();
    });
  });
  loop.carrier.yield();
  EXPECT_EQ(fiber.state(), Fiber::State::kParked);
  EXPECT_EQ(fiber.wait_reason().kind, WaitKind::kOffload);
  EXPECT_STREQ(fiber.wait_reason().call, "getaddrinfo");
  go = true;
  loop.join(fiber);
  EXPECT_NE(where, std::this_thread::get_id());
  EXPECT_GE(pool.threads(), 1);
}

TEST_P(OffloadPoolTest, ErrnoIsHandedBack) {
  loop.run([&] {
    errno = EDOM;
    pool.run("test", []() noexcept { errno = errno == EDOM ? EILSEQ : EINVAL; });
    EXPECT_EQ(errno, EILSEQ);
    pool.run("test", []() noexcept {});
    EXPECT_EQ(errno, EILSEQ);
  });
}

// How many turns others have between the end of a job and its fiber's going on: the least of many tries,
// since a pool thread may be held up in between.
int64_t turns_of_others(PollLoop& loop, Turn turn) {
  std::atomic<int64_t> turns{0};
  bool over = false;
  std::vector<Fiber*> others;
  for (int i = 0; i < 1000; ++i)
    others.push_back(&loop.spawn([&] {
      while (!over) {
        turns.fetch_add(1, std::memory_order_relaxed);
        loop.carrier.yield();
      }
    }));
  int64_t least = INT64_MAX;
  loop.run([&] {
    for (int i = 0; i < 50; ++i) {
      int64_t ended = 0;
      OffloadPool::instance().run(
          "test", [&]() noexcept { ended = turns.load(); }, turn);
      least = std::min(least, turns.load() - ended);
    }
    over = true;
  });
  for (Fiber* other : others) loop.join(*other);
  return least;
}

TEST_P(OffloadPoolTest, AFiberMayKeepItsTurn) {
  EXPECT_GE(turns_of_others(loop, Turn::kInOrder), 900);
  EXPECT_LT(turns_of_others(loop, Turn::kNext), 500);
}

TEST_P(OffloadPoolTest, AThousandJobs) {
  constexpr int kJobs = 1000;
  std::atomic<int> done{0};
  std::vector<Fiber*> fibers;
  for (int i = 0; i < kJobs; ++i)
    fibers.push_back(&loop.spawn([&] {
      for (int n = 0; n < 3; ++n) pool.run("test", [&]() noexcept { ++done; });
    }));
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(done, 3 * kJobs);
  EXPECT_LE(pool.peak_threads(), OffloadPool::kMaxThreads);
}

// Each waits for all others: with one thread too few it would hang.
TEST_P(OffloadPoolTest, GrowsWithDemand) {
  constexpr int kJobs = 64;
  std::atomic<int> arrived{0};
  std::vector<Fiber*> fibers;
  for (int i = 0; i < kJobs; ++i)
    fibers.push_back(&loop.spawn([&] {
      pool.run("test", [&]() noexcept {
        ++arrived;
        while (arrived < kJobs) std::this_thread::yield();
      });
    }));
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_GE(pool.threads(), kJobs);
  EXPECT_GE(pool.peak_threads(), pool.threads());
}

TEST_P(OffloadPoolTest, MoreJobsThanThreadsAllGetTheirTurn) {
  constexpr int kJobs = OffloadPool::kMaxThreads + 50;
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "hundreds of threads take ThreadSanitizer minutes";
#endif
  std::atomic<int> arrived{0};
  std::vector<Fiber*> fibers;
  for (int i = 0; i < kJobs; ++i)
    fibers.push_back(&loop.spawn([&] {
      pool.run("test", [&]() noexcept {
        ++arrived;
        while (arrived < OffloadPool::kMaxThreads) ::usleep(1000);
      });
    }));
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(arrived, kJobs);
  EXPECT_EQ(pool.peak_threads(), OffloadPool::kMaxThreads);
}

TEST_P(OffloadPoolTest, WithoutAFiberItRunsHere) {
  std::thread::id here, where;
  std::thread([&] {
    here = std::this_thread::get_id();
    pool.run("test", [&]() noexcept { where = std::this_thread::get_id(); });
  }).join();
  EXPECT_EQ(where, here);
}

TEST_P(OffloadPoolTest, WhereSwitchingIsForbiddenItRunsHere) {
  std::thread::id where;
  loop.run([&] {
    NoSwitchScope scope;
    pool.run("test", [&]() noexcept { where = std::this_thread::get_id(); });
  });
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST_P(OffloadPoolTest, ItsThreadsTakeNoSignals) {
  sigset_t mask;
  sigemptyset(&mask);
  loop.run([&] { pool.run("test", [&]() noexcept { pthread_sigmask(SIG_SETMASK, nullptr, &mask); }); });
  EXPECT_TRUE(sigismember(&mask, SIGINT));
  EXPECT_TRUE(sigismember(&mask, SIGCHLD));
}

TEST_P(OffloadPoolTest, AWaitForItIsNotCancelled) {
  std::atomic<bool> go{false};
  bool finished = false;
  Fiber& fiber = loop.spawn([&] {
    pool.run("test", [&]() noexcept {
      while (!go) std::this_thread::yield();
    });
    finished = go;
  });
  loop.carrier.yield();
  fiber.cancel();
  loop.settle();
  EXPECT_FALSE(fiber.done());
  go = true;
  loop.join(fiber);
  EXPECT_TRUE(finished);
}

}  // namespace
}  // namespace weft::engine
