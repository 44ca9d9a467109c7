#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "interpose/signals.hpp"
#include "support/engine.hpp"

namespace weft::engine::interpose {
namespace {

using test::FiberThread;
using test::run_until;

sigjmp_buf g_target;

class JumpsTest : public test::EngineTest {
 protected:
  static void install(void (*handler)(int), int flags = 0) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    ASSERT_EQ(routed::sigaction(SIGUSR1, &action, nullptr), 0);
  }
  void TearDown() override {
    routed::signal(SIGUSR1, SIG_DFL);
    EngineTest::TearDown();
  }
  // Would a call made now switch, and is the kernel's mask the fiber's?
  static void expect_ordinary_state() {
    EXPECT_EQ(thread_state().no_switch, 0);
    EXPECT_EQ(thread_state().handler, nullptr);
    sigset_t kernel, fiber;
    real::pthread_sigmask(SIG_BLOCK, nullptr, &kernel);
    routed::pthread_sigmask(SIG_BLOCK, nullptr, &fiber);
    EXPECT_EQ(sigismember(&kernel, SIGUSR1), sigismember(&fiber, SIGUSR1));
    bool ran = false;
    FiberThread other([&] { ran = true; });
    run_until([&] { return ran; });
  }
  // What a child of this process does that runs `body`: its wait status.
  static int status_of(void (*body)()) {
    const pid_t child = fork();
    if (child == 0) {
      body();
      _exit(0);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status;
  }
};

TEST_F(JumpsTest, AJumpLeavesItsHandler) {
  install([](int) { routed::siglongjmp(g_target, 1); });
  for (int i = 0; i < 3; ++i) {
    if (sigsetjmp(g_target, 1) == 0) {
      kill(getpid(), SIGUSR1);
      FAIL() << "it came back";
    }
    expect_ordinary_state();
  }
}

TEST_F(JumpsTest, AJumpLeavesItsHandlerOnAFiber) {
  install([](int) { routed::siglongjmp(g_target, 1); });
  FiberThread fiber([] {
    if (sigsetjmp(g_target, 1) == 0) {
      kill(getpid(), SIGUSR1);
      FAIL() << "it came back";
    }
    expect_ordinary_state();
  });
}

TEST_F(JumpsTest, WithoutASavedMaskTheHandlersStays) {
  install([](int) { routed::longjmp(g_target, 1); });
  if (sigsetjmp(g_target, 0) == 0) {
    kill(getpid(), SIGUSR1);
    FAIL() << "it came back";
  }
  sigset_t mask;
  routed::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  EXPECT_TRUE(sigismember(&mask, SIGUSR1));
  expect_ordinary_state();
  EXPECT_EQ(routed::sigrelse(SIGUSR1), 0);
}

TEST_F(JumpsTest, AJumpRestoresTheFibersMask) {
  if (sigsetjmp(g_target, 1) == 0) {
    routed::sighold(SIGUSR1);
    routed::siglongjmp(g_target, 1);
  }
  sigset_t mask;
  routed::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  EXPECT_FALSE(sigismember(&mask, SIGUSR1));
  expect_ordinary_state();
}

TEST_F(JumpsTest, AJumpInsideAHandlerStaysThere) {
  static int no_switch;
  install([](int) {
    static sigjmp_buf inside;
    if (sigsetjmp(inside, 1) == 0) routed::siglongjmp(inside, 1);
    no_switch = thread_state().no_switch;
  });
  kill(getpid(), SIGUSR1);
  EXPECT_EQ(no_switch, 1);
  expect_ordinary_state();
}

TEST_F(JumpsTest, AJumpLeavesNestedHandlersOnAnAlternateStack) {
  static char memory[65536];
  const stack_t alternate{memory, 0, sizeof memory};
  ASSERT_EQ(sigaltstack(&alternate, nullptr), 0);
  static int depth;
  depth = 0;
  install(
      [](int) {
        if (++depth < 3) kill(getpid(), SIGUSR1);
        routed::siglongjmp(g_target, 1);
      },
      SA_ONSTACK | SA_NODEFER);
  if (sigsetjmp(g_target, 1) == 0) {
    kill(getpid(), SIGUSR1);
    FAIL() << "it came back";
  }
  EXPECT_EQ(depth, 3);
  expect_ordinary_state();
  const stack_t none{nullptr, SS_DISABLE, 0};
  sigaltstack(&none, nullptr);
}

// The mask that a jump restores lets a pending signal through: its handler runs in the middle of the jump,
// and may jump.
TEST_F(JumpsTest, AJumpIsOvertakenByAHandlersJump) {
  static int depth;
  depth = 0;
  install([](int) {
    if (++depth < 3) kill(getpid(), SIGUSR1);  // blocked here
    routed::siglongjmp(g_target, 1);
  });
  if (sigsetjmp(g_target, 1) == 0) {
    kill(getpid(), SIGUSR1);
    FAIL() << "it came back";
  }
  EXPECT_EQ(depth, 3);
  expect_ordinary_state();
}

TEST_F(JumpsTest, AJumpOutOfACallThatWaitsIsRefused) {
  const int status = status_of([] {
    struct sigaction action {};
    action.sa_handler = [](int) { routed::siglongjmp(g_target, 1); };
    routed::sigaction(SIGALRM, &action, nullptr);
    if (sigsetjmp(g_target, 1) != 0) return;
    const itimerval soon{{0, 0}, {0, 5'000}};
    setitimer(ITIMER_REAL, &soon, nullptr);
    timespec long_time{100, 0};
    routed::nanosleep(&long_time, nullptr);
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
}

TEST_F(JumpsTest, AJumpToAnotherFibersStackIsRefused) {
  const int status = status_of([] {
    install([](int) { routed::siglongjmp(g_target, 1); });
    if (sigsetjmp(g_target, 1) != 0) return;
    FiberThread sender([] { kill(getpid(), SIGUSR1); });
    sender.join();
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
}

}  // namespace
}  // namespace weft::engine::interpose
