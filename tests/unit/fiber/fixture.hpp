// A carrier on the test's own thread, with time under the test's control.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fiber/parking_lot.hpp"

namespace weft::engine::test {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

/// Stands still until told to move.
class FakeClock final : public Clock {
 public:
  Nanos now() noexcept override { return now_.load(std::memory_order_relaxed); }
  void advance(Nanos by) noexcept { now_.fetch_add(by, std::memory_order_relaxed); }

 private:
  std::atomic<Nanos> now_{1000 * kSecond};
};

/// Lets the fake time pass instead of waiting for it; waits without end for other threads only.
class FakeEvents final : public EventSource {
 public:
  explicit FakeEvents(FakeClock& clock) noexcept : clock_(clock) {}

  void poll(Nanos timeout) noexcept override {
    polls.fetch_add(1, std::memory_order_relaxed);
    if (on_poll && on_poll()) return;
    if (timeout == kNever)
      futex_.poll(kNever);
    else if (timeout > 0)
      clock_.advance(timeout);
  }
  void interrupt() noexcept override { futex_.interrupt(); }
  bool has_events() noexcept override { return false; }
  void reset_after_fork() noexcept override { futex_.reset_after_fork(); }

  std::atomic<int> polls{0};
  std::function<bool()> on_poll;  ///< true: something happened, do not wait

 private:
  FakeClock& clock_;
  FutexEventSource futex_;
};

/// A carrier attached to the thread that makes it, and fibers from closures.
class Engine {
 public:
  Engine() { EXPECT_TRUE(carrier.attach()); }
  ~Engine() { carrier.detach(); }

  /// A fiber that runs `body` on a small stack, with a reference for the caller.
  Fiber* create(std::function<void()> body, size_t stack_size = 32 * 1024) {
    auto* argument = new std::function<void()>(std::move(body));
    Fiber* fiber = Fiber::create(carrier, &run, argument, stack_size);
    if (!fiber) delete argument;
    return fiber;
  }
  Fiber* spawn(std::function<void()> body, size_t stack_size = 32 * 1024) {
    Fiber* fiber = create(std::move(body), stack_size);
    EXPECT_NE(fiber, nullptr);
    carrier.start(*fiber);
    return fiber;
  }

  /// Waits for the end of `fiber` and gives its reference back. Any thread.
  static void join(Fiber* fiber) {
    const auto& done = fiber->done_word();
    while (!fiber->done())
      ParkingLot::instance().park(&done, kNever, kUninterruptible, {WaitKind::kJoin, "join", fiber},
                                  [&] { return done.load(std::memory_order_acquire) == 0; });
    fiber->release();
  }
  static void join(const std::vector<Fiber*>& fibers) {
    for (Fiber* fiber : fibers) join(fiber);
  }

  /// Yields until nothing else can run.
  void settle() {
    while (carrier.ready_count() > 0) carrier.yield();
  }

  FakeClock clock;
  FakeEvents events{clock};
  Carrier carrier{clock, events};

 private:
  static void* run(void* argument) {
    auto* body = static_cast<std::function<void()>*>(argument);
    (*body)();
    delete body;
    return nullptr;
  }
};

class FiberTest : public testing::Test {
 protected:
  void TearDown() override {
    engine.settle();
    EXPECT_EQ(engine.carrier.pending_timers(), 0u);
    EXPECT_EQ(Fiber::counts().alive, 0u);
  }

  Fiber* spawn(std::function<void()> body) { return engine.spawn(std::move(body)); }
  /// Parks the running fiber as one that waits for unpark().
  Wake wait(uint64_t* ticket = nullptr, uint8_t flags = kUninterruptible, Nanos deadline = kNever) {
    const uint64_t mine = carrier.running().begin_wait(flags, {WaitKind::kOther, "test"});
    if (ticket) *ticket = mine;
    return carrier.park(deadline);
  }
  void note(std::string what) { log.push_back(std::move(what)); }

  Engine engine;
  Carrier& carrier = engine.carrier;
  std::vector<std::string> log;
};

using Log = std::vector<std::string>;

}  // namespace weft::engine::test
