// Many fibers at once, many one after another, and a process that forks amid them.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "fixture.hpp"

namespace weft::engine::test {
namespace {

// ThreadSanitizer allows some 8,000 fibers, and takes a millisecond to make one.
constexpr int kMany = kThreadSanitizer ? 2'000 : kAddressSanitizer ? 20'000 : 100'000;
constexpr int kVeryMany = kThreadSanitizer ? 5'000 : kAddressSanitizer ? 50'000 : 1'000'000;

size_t resident_kib() {
  long pages = 0;
  if (FILE* file = fopen("/proc/self/statm", "r")) {
    EXPECT_EQ(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
  }
  return static_cast<size_t>(pages) * 4;
}

class Scale : public FiberTest {};

TEST_F(Scale, ManyFibersAliveAtOnce) {
  std::vector<Fiber*> fibers(kMany);
  std::vector<uint64_t> tickets(kMany);
  int woken = 0;
  for (int i = 0; i < kMany; ++i)
    fibers[i] = spawn([&, i] {
      wait(&tickets[i]);
      ++woken;
    });
  carrier.yield();
  EXPECT_EQ(Fiber::counts().alive, uint64_t{kMany});
  EXPECT_GE(Fiber::counts().peak, uint64_t{kMany});
  for (int i = kMany - 1; i >= 0; --i) EXPECT_TRUE(fibers[i]->unpark(tickets[i], Wake::kReady));
  Engine::join(fibers);
  EXPECT_EQ(woken, kMany);
}

TEST_F(Scale, ManySleepersWakeInOrder) {
  std::vector<Fiber*> fibers(kMany);
  const Nanos start = carrier.now() + kSecond;
  Nanos last = 0;
  int woken = 0;
  for (int i = 0; i < kMany; ++i)
    fibers[i] = spawn([&, i] {
      const Nanos deadline = start + (i * int64_t{7919}) % kMany * kMicrosecond;
      carrier.sleep_until(deadline, kUninterruptible, "sleep");
      EXPECT_GE(carrier.now(), deadline);
      EXPECT_LE(last, deadline);
      last = deadline;
      ++woken;
    });
  Engine::join(fibers);
  EXPECT_EQ(woken, kMany);
}

TEST_F(Scale, FibersBornAndGoneLeaveNothingBehind) {
  int ran = 0;
  const auto run = [&](int count) {
    for (int i = 0; i < count; i += 10) {
      Fiber* fibers[10];
      for (Fiber*& fiber : fibers) fiber = spawn([&] { ++ran; });
      for (Fiber* fiber : fibers) Engine::join(fiber);
    }
  };
  run(1000);
  const uint64_t created = Fiber::counts().created;
  const size_t before = resident_kib();
  run(kVeryMany);
  EXPECT_EQ(ran, kVeryMany + 1000);
  EXPECT_EQ(Fiber::counts().created - created, uint64_t{kVeryMany});
  // A stack alone would be 4 GiB. Sanitizers have quarantines of their own.
  if (kAddressSanitizer || kThreadSanitizer) return;
  EXPECT_LE(resident_kib(), before + 1024);
}

TEST_F(Scale, AfterACrowdTheMemoryGoesBack) {
  if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "measures memory";
  const size_t before = resident_kib();
  std::vector<Fiber*> fibers(20'000);
  uint32_t gate = 0;
  for (Fiber*& fiber : fibers)
    fiber =
        spawn([&] { ParkingLot::instance().park(&gate, kNever, kUninterruptible, {}, [] { return true; }); });
  carrier.yield();
  const size_t peak = resident_kib();
  EXPECT_GE(peak - before, 18'000u * 4);
  ParkingLot::instance().wake_all(&gate);
  Engine::join(fibers);
  EXPECT_LE(resident_kib() - before, (peak - before) / 2);
}

TEST_F(Scale, RunsOutWithAnErrorAndGoesOn) {
  errno = 0;
  EXPECT_EQ(engine.create([] {}, size_t{1} << 47), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  bool ran = false;
  Engine::join(spawn([&] { ran = true; }));
  EXPECT_TRUE(ran);
}

class Fork : public FiberTest {
 protected:
  pid_t fork_and_reset() {
    const pid_t child = fork();
    if (child == 0) {
      ParkingLot::instance().reset_after_fork();
      StackPool::instance().reset_after_fork();
      carrier.reset_after_fork();
      Fiber::reset_after_fork(carrier.running());
    }
    return child;
  }
  static int exit_status_of(pid_t child) {
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // Forks in the running fiber; the child runs `body` and exits with its result.
  int exit_status_of_child(const std::function<int()>& body) {
    const pid_t child = fork_and_reset();
    if (child == 0) _exit(body());
    return exit_status_of(child);
  }
};

TEST_F(Fork, OnlyTheForkingFiberLivesOnAndTheEngineWorks) {
  uint64_t ticket = 0;
  bool ready_ran = false;
  Fiber* parked = spawn([&] { wait(&ticket); });
  Fiber* sleeping = spawn([&] { carrier.sleep_until(carrier.now() + kSecond, kUninterruptible, "sleep"); });
  Fiber* forking = spawn([&] {
    Fiber* ready = spawn([&] { ready_ran = true; });
    const int status = exit_status_of_child([&] {
      if (parked->state() != Fiber::State::kDone) return 1;
      if (Fiber::counts().alive != 1) return 2;
      if (carrier.pending_timers() != 0 || carrier.ready_count() != 0) return 3;
      if (carrier.has_work(carrier.now() + 10 * kSecond)) return 6;
      int woken = 0;
      std::vector<Fiber*> fibers;
      for (int i = 0; i < 100; ++i)
        fibers.push_back(spawn([&, i] {
          carrier.sleep_until(carrier.now() + i * kSecond, kUninterruptible, "sleep");
          ++woken;
        }));
      Engine::join(fibers);
      if (woken != 100) return 4;
      return ready_ran ? 5 : 42;
    });
    EXPECT_EQ(status, 42);
    Engine::join(ready);
    EXPECT_TRUE(ready_ran);
  });
  Engine::join(forking);
  EXPECT_TRUE(parked->unpark(ticket, Wake::kReady));
  Engine::join({parked, sleeping});
}

// A signal handler may fork while the fiber that it interrupted waits on its own stack for another to be
// ready.
TEST_F(Fork, FromAHandlerThatInterruptedAWaitTheWaitGoesOn) {
  for (const Wake expected : {Wake::kTimeout, Wake::kReady}) {
    pid_t child = -1;
    uint64_t ticket = 0;
    Fiber& self = carrier.running();
    Fiber* other = spawn([&] { carrier.sleep_until(carrier.now() + kSecond, kUninterruptible, "sleep"); });
    carrier.yield();
    engine.events.on_poll = [&] {
      if (child >= 0) return false;
      const bool woken = expected == Wake::kReady && self.unpark(ticket, Wake::kReady);
      child = fork_and_reset();
      return woken;
    };
    const Nanos deadline = carrier.now() + 10;
    const Wake wake = wait(&ticket, kUninterruptible, deadline);
    if (child == 0) _exit(wake == expected && (wake == Wake::kReady || carrier.now() == deadline) ? 42 : 1);
    EXPECT_EQ(wake, expected);
    EXPECT_EQ(exit_status_of(child), 42);
    Engine::join(other);
  }
}

}  // namespace
}  // namespace weft::engine::test
