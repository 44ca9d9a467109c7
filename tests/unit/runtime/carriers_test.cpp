// Several carriers: who runs a new fiber, and how carriers come and go.
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "fiber/parking_lot.hpp"
#include "support/engine.hpp"
#include "support/fork.hpp"

namespace weft::engine::test {
namespace {

class Carriers : public EngineTest {
 protected:
  void TearDown() override {
    EXPECT_TRUE(Runtime::get()->set_carriers(1));
    EngineTest::TearDown();
  }

  // Starts `count` fibers that call body(index), and joins them.
  template <typename Body>
  void run(int count, Body&& body) {
    struct Job {
      Body* body;
      int index;
    };
    std::vector<Job> jobs(count);
    std::vector<Fiber*> fibers;
    for (int i = 0; i < count; ++i) {
      jobs[i] = {&body, i};
      Fiber* fiber = Runtime::get()->create_fiber(
          [](void* argument) -> void* {
            auto& job = *static_cast<Job*>(argument);
            (*job.body)(job.index);
            return nullptr;
          },
          &jobs[i], 0);
      ASSERT_NE(fiber, nullptr);
      Runtime::get()->start(*fiber);
      fibers.push_back(fiber);
    }
    for (Fiber* fiber : fibers) {
      while (!fiber->done())
        ParkingLot::instance().park(&fiber->done_word(), kNever, kUninterruptible, {},
                                    [&] { return !fiber->done(); });
      fiber->release();
    }
  }
};

TEST_F(Carriers, OthersTakeNewFibersWhileOneIsBusy) {
  ASSERT_TRUE(Runtime::get()->set_carriers(3));
  std::atomic<int> started{0};
  std::vector<pid_t> where(3);
  // Each holds its carrier until all three run, so it ends only if there are three.
  run(3, [&](int index) {
    where[index] = sys::thread_id();
    ++started;
    while (started < 3) sched_yield();
  });
  EXPECT_EQ(std::set<pid_t>(where.begin(), where.end()).size(), 3u);
}

TEST_F(Carriers, AFiberStaysWhereItStarted) {
  ASSERT_TRUE(Runtime::get()->set_carriers(4));
  std::atomic<int> moved{0};
  run(200, [&](int) {
    const pid_t here = sys::thread_id();
    for (int i = 0; i < 20; ++i) {
      Carrier* carrier = Carrier::current();
      carrier->sleep_until(carrier->now() + 50 * kMicrosecond, kUninterruptible, "test");
      if (sys::thread_id() != here) ++moved;
    }
  });
  EXPECT_EQ(moved, 0);
}

TEST_F(Carriers, FibersOfSeveralWakeEachOther) {
  ASSERT_TRUE(Runtime::get()->set_carriers(2));
  std::atomic<int> turn{0};
  constexpr int kRounds = 2000;
  run(2, [&](int index) {
    for (int i = 0; i < kRounds; ++i) {
      while (turn.load() % 2 != index)
        ParkingLot::instance().park(&turn, kNever, kUninterruptible, {},
                                    [&] { return turn.load() % 2 != index; });
      ++turn;
      ParkingLot::instance().wake_all(&turn);
    }
  });
  EXPECT_EQ(turn, 2 * kRounds);
}

TEST_F(Carriers, ComeAndGoAndComeAgain) {
  for (const int count : {4, 2, 5, 1, 2, 1}) {
    ASSERT_TRUE(Runtime::get()->set_carriers(count));
    EXPECT_EQ(Runtime::get()->carriers(), count);
    std::atomic<int> ran{0};
    run(100, [&](int) {
      Carrier::current()->yield();
      ++ran;
    });
    EXPECT_EQ(ran, 100);
  }
}

TEST_F(Carriers, ThatComeAgainStillWaitForDescriptors) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(Runtime::get()->set_carriers(3));
    std::atomic<int> ready{0};
    std::atomic<int> started{0};
    run(3, [&](int index) {
      ++started;
      while (started < 3) sched_yield();
      if (index == 0) {
        EXPECT_EQ(write(ends[1], "x", 1), 1);
      }
      if (Poller::of_this_carrier().wait(ends[0], 1, kNever, kUninterruptible, "test") == Wake::kReady)
        ++ready;
    });
    EXPECT_EQ(ready, 3);
    char byte;
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
    ASSERT_TRUE(Runtime::get()->set_carriers(1));
  }
  close(ends[0]);
  close(ends[1]);
}

TEST_F(Carriers, ACarrierThatGoesWaitsForItsFibers) {
  ASSERT_TRUE(Runtime::get()->set_carriers(2));
  std::atomic<bool> away{false}, done{false};
  const pid_t here = sys::thread_id();
  Fiber* fiber = nullptr;
  struct Shared {
    std::atomic<bool>&away, &done;
  } shared{away, done};
  fiber = Runtime::get()->create_fiber(
      [](void* argument) -> void* {
        auto& state = *static_cast<Shared*>(argument);
        state.away = true;
        Carrier* carrier = Carrier::current();
        carrier->sleep_until(carrier->now() + 20 * kMillisecond, kUninterruptible, "test");
        state.done = true;
        return nullptr;
      },
      &shared, 0);
  Runtime::get()->carrier(1).start(*fiber);
  while (!away) sched_yield();
  ASSERT_TRUE(Runtime::get()->set_carriers(1));
  EXPECT_TRUE(done);
  EXPECT_EQ(sys::thread_id(), here);
  fiber->release();
}

// By /proc: whether some thread of that name lets SIGTERM in.
bool takes_termination(const std::string& name) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    bool named = false;
    for (std::string line; std::getline(status, line);) {
      if (line == "Name:\t" + name) named = true;
      if (named && line.starts_with("SigBlk:"))
        if (!(std::stoull(line.substr(7), nullptr, 16) & (uint64_t{1} << (SIGTERM - 1)))) return true;
    }
  }
  return false;
}

TEST_F(Carriers, TheEnginesOwnThreadsTakeNoSignalsWhileTheyIdle) {
  ASSERT_TRUE(Runtime::get()->set_carriers(3));
  std::atomic<int> started{0};
  run(3, [&](int) {
    ++started;
    while (started < 3) sched_yield();
  });
  for (const char* name : {"weft-monitor", "weft-carrier"}) {
    const Nanos limit = monotonic_now() + 10 * kSecond;  // until it has nothing to run any more
    while (takes_termination(name) && monotonic_now() < limit) sched_yield();
    EXPECT_FALSE(takes_termination(name)) << name;
  }
}

TEST_F(Carriers, TheEnginesOwnThreadsLetAForkChildChangeItsUser) {
  const pid_t child = weft::test::fork_with_threads();
  if (child == 0) {
    alarm(10);  // libc waits until each thread has followed
    run(1, [](int) {});
    _exit(setuid(getuid()) == 0 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(Carriers, AForkChildHasOne) {
  ASSERT_TRUE(Runtime::get()->set_carriers(3));
  const pid_t child = weft::test::fork_with_threads();
  if (child == 0) {
    bool ran = false;
    run(1, [&](int) { ran = true; });
    const bool one = Runtime::get()->carriers() == 1;
    const bool again = Runtime::get()->set_carriers(2);
    std::atomic<int> both{0};
    run(2, [&](int) {
      ++both;
      while (both < 2) sched_yield();
    });
    _exit(ran && one && again && both == 2 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace weft::engine::test
