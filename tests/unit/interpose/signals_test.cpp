#include "interpose/signals.hpp"

#include <semaphore.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <deque>

#include "fiber/sys.hpp"
#include "support/engine.hpp"

namespace weft::engine::interpose {
namespace {

using test::FiberThread;
using test::run_until;

int g_calls = 0;

struct sigaction action_of(void (*handler)(int), int flags = 0) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  return action;
}

class SignalsTest : public test::EngineTest {
 protected:
  void SetUp() override {
    g_calls = 0;
    install(0);
  }
  void TearDown() override {
    const struct sigaction ordinary = action_of(SIG_DFL);
    routed::sigaction(SIGUSR1, &ordinary, nullptr);
    EngineTest::TearDown();
  }
  static void install(int flags) {
    const struct sigaction action = action_of([](int) { ++g_calls; }, flags);
    ASSERT_EQ(routed::sigaction(SIGUSR1, &action, nullptr), 0);
  }
};

TEST_F(SignalsTest, TheProgramSeesItsOwnHandlers) {
  struct sigaction seen {};
  const auto handler = [](int) {};
  const struct sigaction mine = action_of(handler, SA_NODEFER);
  ASSERT_EQ(routed::sigaction(SIGUSR2, &mine, nullptr), 0);
  ASSERT_EQ(routed::sigaction(SIGUSR2, nullptr, &seen), 0);
  EXPECT_EQ(seen.sa_handler, mine.sa_handler);
  EXPECT_EQ(seen.sa_flags & ~0x04000000 /* SA_RESTORER */, SA_NODEFER);
  EXPECT_EQ(routed::signal(SIGUSR2, SIG_IGN), mine.sa_handler);
  EXPECT_EQ(routed::signal(SIGUSR2, SIG_DFL), SIG_IGN);
  EXPECT_EQ(routed::sigaction(SIGKILL, &mine, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(SignalsTest, AHandlerInterruptsTheParkedMainThread) {
  FiberThread sender([] {
    run_until([] { return Runtime::get()->carrier().main_fiber().state() == Fiber::State::kParked; });
    kill(getpid(), SIGUSR1);
  });
  timespec long_time{100, 0}, rest{};
  EXPECT_EQ(routed::nanosleep(&long_time, &rest), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(rest.tv_sec, 99);
  EXPECT_EQ(g_calls, 1);
}

TEST_F(SignalsTest, AHandlerWakesAnIdleCarrier) {
  // Nothing else runs: the signal comes while the carrier waits in the kernel.
  timer_t timer;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  const itimerspec soon{{0, 0}, {0, 10'000'000}};
  ASSERT_EQ(timer_settime(timer, 0, &soon, nullptr), 0);
  EXPECT_EQ(routed::pause(), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(g_calls, 1);
  timer_delete(timer);
}

TEST_F(SignalsTest, RestartingHandlersRestartWhatLibcRestarts) {
  install(SA_RESTART);
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  FiberThread sender([&] {
    run_until([] { return Runtime::get()->carrier().main_fiber().state() == Fiber::State::kParked; });
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 10; ++i) routed::sched_yield();
    routed::sem_post(&semaphore);
  });
  EXPECT_EQ(routed::sem_wait(&semaphore), 0);
  EXPECT_EQ(g_calls, 1);
  sender.join();

  routed::siginterrupt(SIGUSR1, 1);
  FiberThread again([&] {
    run_until([] { return Runtime::get()->carrier().main_fiber().state() == Fiber::State::kParked; });
    kill(getpid(), SIGUSR1);
  });
  EXPECT_EQ(routed::sem_wait(&semaphore), -1);
  EXPECT_EQ(errno, EINTR);
}

TEST_F(SignalsTest, ASignalForOneFiberInterruptsThatOne) {
  int slept = -1;
  FiberThread sleeper([&] {
    timespec long_time{100, 0};
    slept = routed::nanosleep(&long_time, nullptr);
  });
  run_until([&] { return sleeper.parked(); });
  EXPECT_EQ(routed::pthread_kill(sleeper.handle(), 0), 0);
  EXPECT_EQ(routed::pthread_kill(sleeper.handle(), 1000), EINVAL);
  EXPECT_EQ(routed::pthread_kill(sleeper.handle(), SIGUSR1), 0);
  sleeper.join();
  EXPECT_EQ(slept, -1);
  EXPECT_EQ(g_calls, 1);
}

TEST_F(SignalsTest, AHandlerMayPostASemaphore) {
  static sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  const struct sigaction action = action_of([](int) { routed::sem_post(&semaphore); }, SA_RESTART);
  ASSERT_EQ(routed::sigaction(SIGUSR1, &action, nullptr), 0);
  FiberThread waiter([] { EXPECT_EQ(routed::sem_wait(&semaphore), 0); });
  run_until([&] { return waiter.parked(); });
  kill(getpid(), SIGUSR1);
  waiter.join();
}

TEST_F(SignalsTest, CallsMadeInAHandlerDoNotSwitch) {
  static uint64_t before, after;
  const struct sigaction action = action_of([](int) {
    before = Carrier::current()->switch_count();
    timespec time{0, 1'000'000};
    routed::nanosleep(&time, nullptr);
    routed::sched_yield();
    after = Carrier::current()->switch_count();
  });
  ASSERT_EQ(routed::sigaction(SIGUSR1, &action, nullptr), 0);
  bool ran = false;
  FiberThread other([&] { ran = true; });
  raise(SIGUSR1);
  EXPECT_FALSE(ran);
  EXPECT_EQ(before, after);
}

TEST_F(SignalsTest, EachFiberHasAMaskOfItsOwn) {
  sigset_t block, seen;
  sigemptyset(&block);
  sigaddset(&block, SIGUSR1);
  FiberThread blocked([&] {
    sigset_t former;
    ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &block, &former), 0);
    EXPECT_FALSE(sigismember(&former, SIGUSR1));
    routed::sched_yield();
    ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, nullptr, &seen), 0);
    EXPECT_TRUE(sigismember(&seen, SIGUSR1));
    raise(SIGUSR1);
    EXPECT_EQ(g_calls, 0);
    ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &block, nullptr), 0);
    kill(getpid(), 0);  // ThreadSanitizer lets handlers run in calls of libc only
    EXPECT_EQ(g_calls, 1);
    EXPECT_EQ(routed::pthread_sigmask(77, &block, nullptr), EINVAL);
  });
  blocked.join();
  ASSERT_EQ(routed::sigprocmask(SIG_BLOCK, nullptr, &seen), 0);
  EXPECT_FALSE(sigismember(&seen, SIGUSR1));
}

TEST_F(SignalsTest, SigwaitTakesASignalWhileOthersRun) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
  FiberThread sender([] {
    run_until([] { return Runtime::get()->carrier().main_fiber().state() == Fiber::State::kParked; });
    kill(getpid(), SIGUSR1);
  });
  int number = 0;
  EXPECT_EQ(routed::sigwait(&set, &number), 0);
  EXPECT_EQ(number, SIGUSR1);
  timespec time{0, 3'000'000};
  siginfo_t info;
  EXPECT_EQ(routed::sigtimedwait(&set, &info, &time), -1);
  EXPECT_EQ(errno, EAGAIN);
  raise(SIGUSR1);
  EXPECT_EQ(routed::sigwaitinfo(&set, &info), SIGUSR1);
  EXPECT_EQ(info.si_pid, getpid());
  EXPECT_EQ(g_calls, 0);
  ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
}

TEST_F(SignalsTest, AHandlerForOnceIsGoneAfterwards) {
  install(SA_RESETHAND);
  raise(SIGUSR1);
  EXPECT_EQ(g_calls, 1);
  struct sigaction seen {};
  ASSERT_EQ(routed::sigaction(SIGUSR1, nullptr, &seen), 0);
  EXPECT_EQ(seen.sa_handler, SIG_DFL);
}

sigset_t set_with(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  return set;
}

TEST_F(SignalsTest, AHandlerThatRanBeforeAWaitDoesNotEndIt) {
  kill(getpid(), SIGUSR1);
  EXPECT_EQ(g_calls, 1);
  timespec time{0, 2'000'000};
  EXPECT_EQ(routed::nanosleep(&time, nullptr), 0);
  const sigset_t set = set_with(SIGUSR1);
  ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
  kill(getpid(), SIGUSR1);
  ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
  EXPECT_EQ(routed::raise(SIGUSR1), 0);
  EXPECT_EQ(g_calls, 3);
  EXPECT_EQ(routed::nanosleep(&time, nullptr), 0);
}

// All but one fiber block the signal: idle or busy, the carrier takes it for that one.
TEST_F(SignalsTest, AnIdleCarrierTakesWhatOnlyOneFiberWouldTake) {
  const sigset_t set = set_with(SIGUSR1);
  ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
  int error = 0;
  FiberThread taker([&] {
    sigset_t none;
    sigemptyset(&none);
    error = routed::sigsuspend(&none) == -1 ? errno : 0;
    sigset_t mask;
    routed::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    EXPECT_TRUE(sigismember(&mask, SIGUSR1)) << "the former mask is back";
  });
  run_until([&] { return taker.parked(); });
  timer_t timer;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  const itimerspec soon{{0, 0}, {0, 5'000'000}};
  ASSERT_EQ(timer_settime(timer, 0, &soon, nullptr), 0);
  taker.join();
  EXPECT_EQ(error, EINTR);
  EXPECT_EQ(g_calls, 1);
  timer_delete(timer);
  ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
}

TEST_F(SignalsTest, ABusyCarrierTakesWhatOnlyOneFiberWouldTake) {
  const sigset_t set = set_with(SIGUSR1);
  ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
  FiberThread taker([&] {
    sigset_t none;
    sigemptyset(&none);
    EXPECT_EQ(routed::sigsuspend(&none), -1);
  });
  run_until([&] { return taker.parked(); });
  kill(getpid(), SIGUSR1);
  bool over = false;
  FiberThread busy([&] { run_until([&] { return over; }); });
  run_until([&] { return taker.fiber().done(); });
  over = true;
  EXPECT_EQ(g_calls, 1);
  ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
}

TEST_F(SignalsTest, ASignalThatAFiberBlocksIsKeptForIt) {
  static Fiber* handled_on;
  handled_on = nullptr;
  const struct sigaction action = action_of([](int) { handled_on = Carrier::running_fiber(); });
  ASSERT_EQ(routed::sigaction(SIGUSR1, &action, nullptr), 0);
  bool blocked = false, open = false;
  FiberThread target([&] {
    const sigset_t set = set_with(SIGUSR1);
    ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
    blocked = true;
    run_until([&] { return open; });
    sigset_t pending;
    ASSERT_EQ(routed::sigpending(&pending), 0);
    EXPECT_TRUE(sigismember(&pending, SIGUSR1));
    ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
    EXPECT_EQ(handled_on, Carrier::running_fiber());
    ASSERT_EQ(routed::sigpending(&pending), 0);
    EXPECT_FALSE(sigismember(&pending, SIGUSR1));
  });
  run_until([&] { return blocked; });
  EXPECT_EQ(routed::pthread_kill(target.handle(), SIGUSR1), 0);
  for (int i = 0; i < 100; ++i) routed::sched_yield();
  EXPECT_EQ(handled_on, nullptr);
  sigset_t pending;
  ASSERT_EQ(routed::sigpending(&pending), 0);
  EXPECT_FALSE(sigismember(&pending, SIGUSR1)) << "it is not for this thread";
  EXPECT_EQ(routed::pthread_sigqueue(target.handle(), SIGUSR1, {}), EAGAIN);
  open = true;
}

// In the kernel these would be one signal, for one of them.
TEST_F(SignalsTest, EachFiberGetsTheSignalThatWasSentToIt) {
  for (const bool sender_blocks : {false, true}) {
    const sigset_t set = set_with(SIGUSR1);
    g_calls = 0;
    int interrupted = 0, taken = 0;
    {
      std::deque<FiberThread> readers, waiters;
      for (int i = 0; i < 5; ++i) {
        readers.emplace_back([&] { interrupted += routed::pause() == -1 && errno == EINTR; });
        waiters.emplace_back([&] {
          int number = 0;
          ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
          ASSERT_EQ(routed::sigwait(&set, &number), 0);
          ++taken;
        });
      }
      for (auto* all : {&readers, &waiters})
        for (FiberThread& thread : *all) run_until([&] { return thread.parked(); });
      if (sender_blocks) {
        ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
      }
      for (auto* all : {&readers, &waiters})
        for (FiberThread& thread : *all) EXPECT_EQ(routed::pthread_kill(thread.handle(), SIGUSR1), 0);
    }
    EXPECT_EQ(interrupted, 5);
    EXPECT_EQ(taken, 5);
    EXPECT_EQ(g_calls, 5);
    ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
    EXPECT_EQ(g_calls, 5);
  }
}

TEST_F(SignalsTest, SignalfdSeesWhatIsRaisedWhereAllBlockIt) {
  const sigset_t set = set_with(SIGUSR1);
  ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
  const int fd = signalfd(-1, &set, SFD_CLOEXEC);
  ASSERT_EQ(routed::raise(SIGUSR1), 0);
  signalfd_siginfo info{};
  EXPECT_EQ(routed::read(fd, &info, sizeof info), static_cast<ssize_t>(sizeof info));
  EXPECT_EQ(info.ssi_signo, static_cast<uint32_t>(SIGUSR1));
  close(fd);
  ASSERT_EQ(routed::pthread_sigmask(SIG_UNBLOCK, &set, nullptr), 0);
  EXPECT_EQ(g_calls, 0);
}

TEST_F(SignalsTest, AHandlerInterruptsTheWaitForASharedSemaphore) {
  sem_t semaphore;
  ASSERT_EQ(sem_init(&semaphore, /*pshared=*/1, 0), 0);
  FiberThread sender([] {
    run_until([] { return Runtime::get()->carrier().main_fiber().state() == Fiber::State::kParked; });
    kill(getpid(), SIGUSR1);
  });
  EXPECT_EQ(routed::sem_wait(&semaphore), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(g_calls, 1);
}

TEST_F(SignalsTest, AFiberRaisesASignalForItself) {
  FiberThread other([] {
    const sigset_t set = set_with(SIGUSR1);
    ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
    EXPECT_EQ(routed::raise(SIGUSR1), 0);
    for (int i = 0; i < 100; ++i) routed::sched_yield();
    EXPECT_EQ(g_calls, 0);
    int number = 0;
    EXPECT_EQ(routed::sigwait(&set, &number), 0);
    EXPECT_EQ(number, SIGUSR1);
    EXPECT_EQ(routed::raise(-1), -1);
    EXPECT_EQ(errno, EINVAL);
  });
  for (int i = 0; i < 50; ++i) routed::sched_yield();
  other.join();
  EXPECT_EQ(g_calls, 0);
}

TEST_F(SignalsTest, NobodyBlocksKillAndStop) {
  sigset_t all, seen;
  sigfillset(&all);
  FiberThread fiber([&] {
    ASSERT_EQ(routed::pthread_sigmask(SIG_SETMASK, &all, nullptr), 0);
    ASSERT_EQ(routed::pthread_sigmask(SIG_SETMASK, nullptr, &seen), 0);
  });
  fiber.join();
  EXPECT_FALSE(sigismember(&seen, SIGKILL));
  EXPECT_FALSE(sigismember(&seen, SIGSTOP));
  EXPECT_TRUE(sigismember(&seen, SIGTERM));
}

TEST_F(SignalsTest, SigwaitTakesWhatWasSentToItsFiber) {
  int number = 0;
  siginfo_t info{};
  FiberThread waiter([&] {
    const sigset_t set = set_with(SIGUSR1);
    ASSERT_EQ(routed::pthread_sigmask(SIG_BLOCK, &set, nullptr), 0);
    EXPECT_EQ(routed::sigwait(&set, &number), 0);
    EXPECT_EQ(routed::sigwaitinfo(&set, &info), SIGUSR1);
  });
  run_until([&] { return waiter.parked(); });
  EXPECT_EQ(routed::pthread_kill(waiter.handle(), SIGUSR1), 0);
  run_until([&] { return number != 0; });
  EXPECT_EQ(number, SIGUSR1);
  run_until([&] { return waiter.parked(); });
  EXPECT_EQ(routed::pthread_kill(waiter.handle(), SIGUSR1), 0);
  waiter.join();
  EXPECT_EQ(info.si_code, SI_TKILL);
  EXPECT_EQ(g_calls, 0);
}

TEST_F(SignalsTest, AQueuedValueArrives) {
  static int value;
  struct sigaction action {};
  action.sa_sigaction = [](int, siginfo_t* info, void*) { value = info->si_value.sival_int; };
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(routed::sigaction(SIGUSR1, &action, nullptr), 0);
  FiberThread target([] { EXPECT_EQ(routed::pause(), -1); });
  run_until([&] { return target.parked(); });
  EXPECT_EQ(routed::pthread_sigqueue(target.handle(), SIGUSR1, {.sival_int = 42}), 0);
  target.join();
  EXPECT_EQ(value, 42);
}

TEST_F(SignalsTest, TheOlderNamesKeepTheFibersMask) {
  EXPECT_EQ(routed::sighold(SIGUSR1), 0);
  bool other_open = false;
  sigset_t seen;
  FiberThread other([&] {
    const int former = routed::sigsetmask(0);
    EXPECT_TRUE(static_cast<unsigned>(former) & signal_bit(SIGUSR1)) << "inherited";
    other_open = true;
    run_until([&] { return !other_open; });
    EXPECT_EQ(routed::sigblock(1 << (SIGUSR2 - 1)), 0);
    EXPECT_EQ(routed::sigsetmask(0), 1 << (SIGUSR2 - 1));
  });
  run_until([&] { return other_open; });
  routed::pthread_sigmask(SIG_BLOCK, nullptr, &seen);
  EXPECT_TRUE(sigismember(&seen, SIGUSR1));
  other_open = false;
  other.join();
  EXPECT_EQ(routed::raise(SIGUSR1), 0);
  EXPECT_EQ(routed::__xpg_sigpause(SIGUSR1), -1);
  EXPECT_EQ(errno, EINTR);
  EXPECT_EQ(g_calls, 1);
  EXPECT_EQ(routed::sigrelse(SIGUSR1), 0);
  EXPECT_EQ(routed::sighold(1000), -1);
}

TEST_F(SignalsTest, AForkChildHasOneFiberAndAnEngineThatWorks) {
  bool go = false;
  FiberThread bystander([&] { run_until([&] { return go; }); });
  FiberThread forker([] {
    const pid_t child = fork();
    if (child == 0) {
      int sum = 0;
      {
        std::deque<FiberThread> threads;
        for (int i = 0; i < 10; ++i)
          threads.emplace_back([&, i] {
            timespec time{0, 1'000'000};
            routed::nanosleep(&time, nullptr);
            sum += i;
          });
      }
      _exit(sum == 45 && Fiber::counts().alive == 1 ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  });
  forker.join();
  go = true;
}

TEST_F(SignalsTest, AVforkChildCallsLibcOnly) {
  // volatile: written by the child, which shares the memory, between the two returns.
  static volatile bool child_may_switch;
  child_may_switch = true;
  static volatile pid_t child;
  child = routed::weft_vfork();
  if (child == 0) {
    child_may_switch = thread_state().no_switch == 0 || !thread_state().in_vfork_child;
    sys::call(SYS_exit, 7);
  }
  ASSERT_GT(child, 0);
  EXPECT_FALSE(child_may_switch);
  EXPECT_EQ(thread_state().no_switch, 0);
  EXPECT_FALSE(thread_state().in_vfork_child);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

}  // namespace
}  // namespace weft::engine::interpose
