// How fibers fare at the ends of what they live in: of a Runtime, of a carrier, of the process they were in.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <optional>
#include <vector>

#include "library.hpp"
#include "weft/detail/interpreter.hpp"

namespace weft::test {
namespace {

class Ends : public Library {
 protected:
  // The exit code of a child that `body` runs in, on the calling fiber or thread; 100 and more: a signal.
  static int in_fork_child(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      _exit(body());
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
  }
};

TEST_F(Ends, ARuntimeWaitsForFibersThatHaveNotBegun) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> ran{0};
    {
      Runtime runtime({.carriers = 2});
      for (int i = 0; i < 20; ++i)
        static_cast<void>(spawn(
            [&, i] {
              if (i % 3 == 0) this_fiber::yield();
              ++ran;
            },
            {.carrier = 1}));
    }
    ASSERT_EQ(ran, 20) << "in round " << round;
  }
}

TEST_F(Ends, ACarrierThatEndsRefusesFibersOrRunsThem) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> accepted{0}, ran{0};
    std::optional<Runtime> runtime(std::in_place, RuntimeOptions{.carriers = 2});
    std::thread native([&] {
      try {
        for (;;) {
          static_cast<void>(spawn([&] { ++ran; }, {.carrier = 1}));
          ++accepted;
        }
      } catch (const std::system_error&) {
      }
    });
    until([&] { return accepted > 0; });
    runtime.reset();
    native.join();
    ASSERT_EQ(ran, accepted) << "in round " << round;
  }
}

TEST_F(Ends, OnAnyCarrierAFiberHasTheSignalMaskOfItsCreator) {
  Runtime runtime({.carriers = 2});
  for (int carrier : {0, 1})
    spawn(
        [] {
          sigset_t mask;
          pthread_sigmask(SIG_SETMASK, nullptr, &mask);
          EXPECT_FALSE(sigismember(&mask, SIGTERM));
          EXPECT_FALSE(sigismember(&mask, SIGSEGV));
        },
        {.carrier = carrier})
        .result();
}

TEST_F(Ends, WhatDidNotSurviveAForkIsDone) {
  Channel<int> never;
  auto fiber = spawn([&] { return never.receive().has_value(); });
  until_parked(fiber);
  EXPECT_EQ(in_fork_child([&] {
              if (!fiber.done()) return 1;
              fiber.cancel();
              this_fiber::yield();
              if (!fiber.join_for(5s)) return 2;
              try {
                static_cast<void>(fiber.result());
                return 3;
              } catch (const Cancelled&) {
              }
              return spawn([] { return 7; }).result();
            }),
            7);
  never.close();
  EXPECT_FALSE(fiber.result());
}

TEST_F(Ends, AGroupOfBeforeTheForkIsEmpty) {
  TaskGroup group;
  Event leave;
  int ended = 0;
  for (int i = 0; i < 3; ++i)
    static_cast<void>(group.spawn([&] {
      leave.wait();
      ++ended;
    }));
  for (int i = 0; i < 3; ++i) this_fiber::yield();
  EXPECT_EQ(in_fork_child([&] {
              static_cast<void>(group.spawn([&] { ++ended; }));
              group.join();
              return ended;
            }),
            1);
  leave.set();
  group.join();
  EXPECT_EQ(ended, 3);
}

TEST_F(Ends, TheEndOfAFiberThatForkedIsTheChildsEnd) {
  const pid_t parent = getpid();
  pid_t child = 0;
  spawn([&] {
    child = fork();
    if (child == 0) std::atexit([] { _exit(7); });  // before what else would run then, of sanitizers
  }).result();
  if (getpid() != parent) _exit(9);  // never: the fiber was the child's main thread
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(Ends, ARuntimeIsNotMissedWhereANativeThreadForked) {
  std::optional<Runtime> runtime(std::in_place);
  int code = -1;
  std::thread([&] {
    code = in_fork_child([&] {
      runtime.reset();
      return 5;
    });
  }).join();
  EXPECT_EQ(code, 5);
}

TEST_F(Ends, ADroppedGroupDoesNotWaitForMembersThatRunOn) {
  // As an interpreter drops it, that does not come back to wait.
  Event leave;
  int ended = 0;
  auto* core = detail::group_create();
  auto member = spawn([&] {
    leave.wait();
    ++ended;
  });
  ASSERT_TRUE(detail::group_add(*core, member.task()));
  detail::group_destroy(*core);
  leave.set();
  member.result();
  EXPECT_EQ(ended, 1);
}

TEST_F(Ends, ASignalEndsNoWaitButAnInterpretersOwn) {
  engine::Fiber& main = engine::Carrier::current()->main_fiber();
  const auto interrupt = [&] {
    while (main.state() != engine::Fiber::State::kParked) this_fiber::yield();
    main.interrupt(false);
  };
  Event event;
  auto first = spawn(interrupt);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(event.wait_for(20ms));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 20ms);
  auto second = spawn(interrupt);
  detail::Interruptible interruptible;
  const std::atomic<uint32_t> never{0};
  EXPECT_EQ(
      detail::await(&never, detail::kNever, detail::kCancellable, "test", []() noexcept { return false; }),
      detail::Outcome::kInterrupted);
}

}  // namespace
}  // namespace weft::test
