#include "fiber/monitor.hpp"

#include <dirent.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "fixture.hpp"

namespace weft::engine::test {
namespace {

std::string read_task_file(int thread, const char* name) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The monitor's thread, by its name; 0 if there is none.
int monitor_thread() {
  int found = 0;
  DIR* tasks = opendir("/proc/self/task");
  while (const dirent* entry = readdir(tasks))
    if (const int thread = atoi(entry->d_name); thread && read_task_file(thread, "comm") == "weft-monitor\n")
      found = thread;
  closedir(tasks);
  return found;
}

int64_t voluntary_switches(int thread) {
  const std::string status = read_task_file(thread, "status");
  const size_t at = status.find("\nvoluntary_ctxt_switches:");
  return at == std::string::npos ? -1 : atoll(status.c_str() + at + strlen("\nvoluntary_ctxt_switches:"));
}

// True if it is inside ppoll() without a time limit: nothing but its bell will wake it.
bool sleeps_without_end(int thread) {
  const std::string call = read_task_file(thread, "syscall");
  long number = 0;
  unsigned long arguments[3] = {1, 1, 1};
  if (sscanf(call.c_str(), "%ld %lx %lx %lx", &number, &arguments[0], &arguments[1], &arguments[2]) != 4)
    return false;
  return number == SYS_ppoll && arguments[2] == 0;
}

class CountingPreemptor final : public Preemptor {
 public:
  bool preempt(Carrier&) noexcept override {
    ++calls;
    return answer;
  }
  std::atomic<int> calls{0};
  std::atomic<bool> answer{true};
};

class MonitorTest : public FiberTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(monitor.watch(carrier));
    while ((thread = monitor_thread()) == 0) std::this_thread::yield();
  }
  void TearDown() override {
    monitor.unwatch(carrier);
    monitor.stop();
    // The kernel wakes who joins a thread before it takes that out of /proc.
    while (monitor_thread() != 0) std::this_thread::yield();
    FiberTest::TearDown();
  }
  // Keeps the carrier from switching until the monitor has looked at it `ticks` times more.
  void spin_for(int ticks) {
    const int64_t end = voluntary_switches(thread) + ticks;
    while (voluntary_switches(thread) < end) {
    }
  }

  Monitor monitor;
  CountingPreemptor preemptor;
  int thread = 0;
};

TEST_F(MonitorTest, ABusyFiberThatIsAloneIsLeftAlone) {
  monitor.set_preemptor(&preemptor);
  carrier.yield();
  spin_for(10);
  EXPECT_EQ(preemptor.calls, 0);
  EXPECT_EQ(monitor.stalls(), 0u);
}

TEST_F(MonitorTest, ABusyFiberIsPreemptedWhenAnotherIsReady) {
  monitor.set_preemptor(&preemptor);
  Fiber* other = spawn([] {});
  while (preemptor.calls == 0) {
  }
  EXPECT_EQ(monitor.stalls(), 0u);
  Engine::join(other);
  while (monitor.preemptions() == 0) std::this_thread::yield();
}

TEST_F(MonitorTest, ABusyFiberIsPreemptedWhenATimerIsDue) {
  monitor.set_preemptor(&preemptor);
  Fiber* sleeper = spawn([&] { carrier.sleep_until(carrier.now() + kSecond, kUninterruptible, "sleep"); });
  carrier.yield();
  spin_for(5);
  EXPECT_EQ(preemptor.calls, 0);
  engine.clock.advance(kSecond);
  while (preemptor.calls == 0) {
  }
  Engine::join(sleeper);
}

TEST_F(MonitorTest, ATimerThatWasTakenOutIsNoReasonToPreempt) {
  monitor.set_preemptor(&preemptor);
  uint64_t ticket = 0;
  Fiber* fiber = spawn([&] { wait(&ticket, kUninterruptible, carrier.now() + kSecond); });
  carrier.yield();
  fiber->unpark(ticket, Wake::kReady);
  Engine::join(fiber);
  engine.clock.advance(2 * kSecond);
  spin_for(5);
  EXPECT_EQ(preemptor.calls, 0);
}

TEST_F(MonitorTest, ABusyFiberIsPreemptedWhenSomethingWasPosted) {
  monitor.set_preemptor(&preemptor);
  uint64_t ticket = 0;
  Fiber* fiber = spawn([&] { wait(&ticket); });
  carrier.yield();
  std::thread waker([&] { fiber->unpark(ticket, Wake::kReady); });
  while (preemptor.calls == 0) {
  }
  waker.join();
  Engine::join(fiber);
}

TEST_F(MonitorTest, StallsAreCountedAndReportedOnce) {
  static std::atomic<int> reports;
  reports = 0;
  preemptor.answer = false;
  monitor.set_preemptor(&preemptor);
  monitor.set_stall_reporter([](Carrier&) noexcept { ++reports; });
  Fiber* other = spawn([] {});
  while (monitor.stalls() < 3) {
  }
  EXPECT_EQ(reports, 1);
  EXPECT_EQ(monitor.preemptions(), 0u);
  Engine::join(other);
}

TEST_F(MonitorTest, ACarrierThatSwitchesIsNotPreemptedButPolls) {
  monitor.set_preemptor(&preemptor);
  Fiber* other = nullptr;
  std::atomic<bool> stop{false};
  other = spawn([&] {
    while (!stop) carrier.yield();
  });
  const int64_t end = voluntary_switches(thread) + 10;
  while (voluntary_switches(thread) < end)
    for (int i = 0; i < 100; ++i) carrier.yield();
  stop = true;
  EXPECT_GT(engine.events.polls, 0);
  Engine::join(other);
}

TEST_F(MonitorTest, SleepsWithoutEndWhileAllAreIdleAndWakesWithTheFirst) {
  monitor.set_preemptor(&preemptor);
  Fiber& self = carrier.running();
  const uint64_t ticket = self.begin_wait(kUninterruptible, {WaitKind::kOther, "test"});
  std::thread observer([&] {
    while (!sleeps_without_end(thread)) std::this_thread::yield();
    const int64_t before = voluntary_switches(thread);
    usleep(100'000);  // twenty ticks in which it must do nothing
    EXPECT_EQ(voluntary_switches(thread), before);
    EXPECT_TRUE(self.unpark(ticket, Wake::kReady));
  });
  carrier.park();
  observer.join();
  spin_for(5);  // it ticks again
}

TEST_F(MonitorTest, ServesItsService) {
  struct Service final : MonitorService {
    Service() { EXPECT_EQ(pipe(ends), 0); }
    ~Service() override {
      close(ends[0]);
      close(ends[1]);
    }
    int descriptor() const noexcept override { return ends[0]; }
    void serve() noexcept override {
      char byte;
      EXPECT_EQ(read(ends[0], &byte, 1), 1);
      ++served;
    }
    int ends[2];
    std::atomic<int> served{0};
  } service;
  monitor.set_service(&service);
  EXPECT_EQ(write(service.ends[1], "x", 1), 1);
  while (service.served == 0) std::this_thread::yield();
  monitor.set_service(nullptr);
  monitor.unwatch(carrier);
  monitor.stop();
}

TEST_F(MonitorTest, WatchesSeveralCarriersThatComeAndGo) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        Engine mine;
        EXPECT_TRUE(monitor.watch(mine.carrier));
        Fiber* fiber = mine.spawn([&] {
          for (int n = 0; n < 100; ++n) mine.carrier.yield();
        });
        Engine::join(fiber);
        monitor.unwatch(mine.carrier);
      }
    });
  for (auto& each : threads) each.join();
}

TEST(Monitors, StopWithoutStartAndTwiceIsHarmless) {
  Monitor monitor;
  monitor.stop();
  Engine engine;
  EXPECT_TRUE(monitor.watch(engine.carrier));
  monitor.unwatch(engine.carrier);
  monitor.stop();
  monitor.stop();
}

}  // namespace
}  // namespace weft::engine::test
