// Preemption by contention, with OS threads in the place of fibers.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "embedded.hpp"
#include "fiber/carrier.hpp"
#include "host/gil_preemptor.hpp"
#include "host/thread_states.hpp"

namespace weft::engine::host {
namespace {

using testing::evaluate;
using testing::Gil;
using testing::run;

GilPreemptor& preemptor() {
  static auto& instance = *new GilPreemptor;  // lives as long as the process
  return instance;
}

// A carrier on an OS thread of its own, whose main fiber runs what it is given.
class CarrierThread {
 public:
  template <typename Body>
  explicit CarrierThread(Body body)
      : thread_([this, body] {
          ASSERT_TRUE(carrier_.attach());
          body();
          step_.wait(0);
          carrier_.detach();
        }) {}
  ~CarrierThread() {
    step_.store(1);
    step_.notify_one();
    thread_.join();
  }
  Carrier& carrier() { return carrier_; }

 private:
  MonotonicClock clock_;
  FutexEventSource events_;
  Carrier carrier_{clock_, events_};
  std::atomic<int> step_{0};
  std::thread thread_;
};

// One that computes in Python until the end of the scope.
class BusyThread {
 public:
  BusyThread()
      : thread_([] {
          const Gil gil;
          run("while not stop: rounds += 1");
        }) {
    for (long before = rounds(); rounds() == before;) std::this_thread::yield();
  }
  ~BusyThread() { stop(); }
  void stop() {
    const Gil gil;
    run("stop = True");
  }
  Carrier& carrier() { return thread_.carrier(); }

 private:
  static long rounds() {
    const Gil gil;
    return std::stol(evaluate("rounds"));
  }
  CarrierThread thread_;
};

class GilPreemptorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Gil gil;
    run("import sys, threading, os\nrounds, stop = 0, False");
  }
  // Asks until the fiber gives way: on a busy machine it may not be scheduled for longer than the preemptor's
  // patience.
  static void preempt(Carrier& carrier) {
    do testing::wait_until_held(carrier);
    while (!preemptor().preempt(carrier));
  }
  Python& python_ = *Python::find();
};

TEST_F(GilPreemptorTest, ABusyLoopGivesWay) {
  BusyThread busy;
  preempt(busy.carrier());  // makes the helper and its thread state
  Nanos shortest = kNever, total = 0;
  constexpr int kTimes = 30;
  const uint64_t before = preemptor().contentions();
  for (int i = 0; i < kTimes; ++i) {
    testing::wait_until_held(busy.carrier());
    const Nanos start = monotonic_now();
    preempt(busy.carrier());
    const Nanos took = monotonic_now() - start;
    shortest = std::min(shortest, took);
    total += took;
  }
  printf("preempted in %.1f ms on average, %.1f ms at least\n", static_cast<double>(total) / kTimes / 1e6,
         static_cast<double>(shortest) / 1e6);
  EXPECT_GE(preemptor().contentions() - before, static_cast<uint64_t>(kTimes));
  // The switch interval of 5 ms, and a millisecond of holding on since nothing switches here: 6.1 ms on an
  // idle machine.
  EXPECT_LT(shortest, 100 * kMillisecond) << "on a busy one";
}

TEST_F(GilPreemptorTest, WhoDoesNotHoldTheGilIsLeftAlone) {
  BusyThread busy;
  CarrierThread idle([] {});
  preempt(busy.carrier());  // by now it knows how to tell who holds it
  testing::wait_until_held(busy.carrier());
  const uint64_t before = preemptor().contentions();
  EXPECT_FALSE(preemptor().preempt(idle.carrier()));
  busy.stop();
  while (python_.api().current_state() != nullptr) std::this_thread::yield();
  EXPECT_EQ(preemptor().contentions(), before);
}

TEST_F(GilPreemptorTest, AFreeGilIsKeptForWhoComesBackForItButNotForEver) {
  {
    BusyThread busy;
    preempt(busy.carrier());
  }
  CarrierThread idle([] {});
  const uint64_t before = preemptor().contentions();
  const auto ask_in_vain = [&] {
    ThreadStateInfo holder;
    while (read_gil_holder(python_, holder) != GilHolder::kNobody) std::this_thread::yield();
    EXPECT_FALSE(preemptor().preempt(idle.carrier()));
  };
  for (int i = 0; i < 64; ++i) ask_in_vain();
  EXPECT_EQ(preemptor().contentions(), before + 64);
  for (int i = 0; i < 64; ++i) ask_in_vain();
  EXPECT_EQ(preemptor().contentions(), before + 64 + 8);
}

TEST_F(GilPreemptorTest, ALongCallInCDoesNotBlockTheMonitor) {
  std::atomic<int> step{0};
  CarrierThread stuck([&step] {
    const Gil gil;
    step.store(1);
    step.notify_one();
    step.wait(1);  // holding it
  });
  step.wait(0);
  const uint64_t before = preemptor().contentions();
  const Nanos start = monotonic_now();
  EXPECT_FALSE(preemptor().preempt(stuck.carrier()));
  const Nanos first = monotonic_now() - start;
  EXPECT_GE(first, GilPreemptor::kPatience);
  EXPECT_LT(first, 10 * GilPreemptor::kPatience);
  // From then on it is known that the helper waits already.
  const Nanos again = monotonic_now();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(preemptor().preempt(stuck.carrier()));
  EXPECT_LT(monotonic_now() - again, GilPreemptor::kPatience * 10);
  EXPECT_EQ(preemptor().contentions(), before);
  step.store(2);
  step.notify_one();
  while (preemptor().contentions() == before) std::this_thread::yield();
  // And it works again.
  BusyThread busy;
  for (int i = 0; i < 5; ++i) preempt(busy.carrier());
}

TEST_F(GilPreemptorTest, TheHelperIsNotSeen) {
  BusyThread busy;
  preempt(busy.carrier());
  {
    const Gil gil;
    EXPECT_EQ(evaluate("len(sys._current_frames())"), "2") << "this thread and the busy one";
    EXPECT_EQ(
        evaluate("len([t for t in threading.enumerate() if not isinstance(t, threading._DummyThread)])"),
        "1");
  }
}

TEST_F(GilPreemptorTest, AForkChildStartsAHelperOfItsOwn) {
  BusyThread busy;
  preempt(busy.carrier());
  std::string child;
  {
    const Gil gil;
    run("stop = True");
    child = evaluate("os.fork()");
    if (child == "0") {
      preemptor().reset_after_fork();
      const uint64_t before = preemptor().contentions();
      {
        run("rounds, stop = 0, False");
        const testing::NoGil released;
        BusyThread grandchild;
        for (int i = 0; i < 5; ++i) preempt(grandchild.carrier());
      }
      _exit(preemptor().contentions() >= before + 5 ? 0 : 1);
    }
  }
  int status = -1;
  ASSERT_EQ(waitpid(std::stoi(child), &status, 0), std::stoi(child));
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace weft::engine::host
