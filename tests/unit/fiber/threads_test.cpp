// Fibers and native threads: who wakes whom, from where.
#include <csignal>
#include <semaphore>

#include "fixture.hpp"

namespace weft::engine::test {
namespace {

class Threads : public FiberTest {};

struct Message : InboxNode {
  explicit Message(std::function<void()> what) : body(std::move(what)) {
    owner = this;
    run = [](InboxNode& node, Carrier&) noexcept { static_cast<Message*>(node.owner)->body(); };
  }
  std::function<void()> body;
};

TEST_F(Threads, NativeThreadWakesAFiber) {
  uint64_t ticket = 0;
  Fiber* fiber = spawn([&] { EXPECT_EQ(wait(&ticket), Wake::kReady); });
  carrier.yield();
  std::thread thread([&] { EXPECT_TRUE(fiber->unpark(ticket, Wake::kReady)); });
  Engine::join(fiber);
  thread.join();
}

TEST_F(Threads, FiberWakesANativeThread) {
  std::atomic<uint32_t> word{0};
  std::thread thread([&] {
    ParkingLot::instance().park(&word, kNever, kUninterruptible, {}, [&] { return word.load() == 0; });
    EXPECT_EQ(word.load(), 1u);
  });
  Fiber* fiber = spawn([&] {
    word.store(1);
    ParkingLot::instance().wake_one(&word);
  });
  Engine::join(fiber);
  thread.join();
}

TEST_F(Threads, OfManyUnparksFromManyThreadsOneSucceeds) {
  constexpr int kThreads = 4, kRounds = 500;
  Fiber& self = carrier.running();
  std::atomic<uint64_t> ticket{0};
  std::atomic<int> successes{0}, round{0}, finished{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&] {
      for (int r = 1; r <= kRounds; ++r) {
        while (round.load(std::memory_order_acquire) < r) std::this_thread::yield();
        successes += self.unpark(ticket.load(), Wake::kReady);
        ++finished;
      }
    });
  for (int r = 1; r <= kRounds; ++r) {
    ticket = self.begin_wait(kUninterruptible, {WaitKind::kOther, "test"});
    round.store(r, std::memory_order_release);
    EXPECT_EQ(carrier.park(), Wake::kReady);
    while (finished.load() < r * kThreads) std::this_thread::yield();
    EXPECT_EQ(successes.load(), r);
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(Threads, WakeRacingATimeoutIsReportedByExactlyOneSide) {
  constexpr int kRounds = 2000;
  Fiber& self = carrier.running();
  std::atomic<uint64_t> ticket{0};
  std::atomic<int> round{0}, finished{0}, unparked{0};
  std::thread thread([&] {
    for (int r = 1; r <= kRounds; ++r) {
      while (round.load(std::memory_order_acquire) < r) std::this_thread::yield();
      unparked += self.unpark(ticket.load(), Wake::kReady);
      finished = r;
    }
  });
  int woken = 0, timed_out = 0;
  for (int r = 1; r <= kRounds; ++r) {
    ticket = self.begin_wait(kUninterruptible, {WaitKind::kOther, "test"});
    round.store(r, std::memory_order_release);
    (carrier.park(carrier.now() + 1) == Wake::kReady ? woken : timed_out) += 1;
    while (finished.load() < r) std::this_thread::yield();
  }
  thread.join();
  EXPECT_EQ(woken, unparked.load());
  EXPECT_EQ(woken + timed_out, kRounds);
}

TEST_F(Threads, CancelFromAnotherThreadRacingTheWaitIsNeverLost) {
  for (int i = 0; i < 500; ++i) {
    std::atomic<bool> about_to_wait{false};
    Fiber* fiber = spawn([&] {
      about_to_wait.store(true, std::memory_order_release);
      EXPECT_EQ(wait(nullptr, kCancellable), Wake::kCancelled);
    });
    std::thread thread([&] {
      while (!about_to_wait.load(std::memory_order_acquire)) std::this_thread::yield();
      fiber->cancel();
    });
    carrier.yield();
    thread.join();
    Engine::join(fiber);
  }
}

TEST_F(Threads, AnyThreadMayCreateAndStartAFiber) {
  std::atomic<int> ran{0};
  std::vector<Fiber*> fibers(100);
  std::thread thread([&] {
    for (Fiber*& fiber : fibers)
      fiber = engine.spawn([&] {
        EXPECT_EQ(Carrier::current(), &carrier);
        ++ran;
      });
  });
  thread.join();
  Engine::join(fibers);
  EXPECT_EQ(ran.load(), 100);
}

TEST_F(Threads, NativeThreadJoinsAFiber) {
  uint64_t ticket = 0;
  int value = 0;
  Fiber* fiber = spawn([&] {
    wait(&ticket);
    value = 42;
  });
  carrier.yield();
  std::atomic<bool> joined{false};
  std::thread thread([&] {
    Engine::join(fiber);
    EXPECT_EQ(value, 42);
    joined = true;
  });
  EXPECT_FALSE(joined.load());
  fiber->unpark(ticket, Wake::kReady);
  carrier.yield();
  thread.join();
  EXPECT_TRUE(joined.load());
}

TEST_F(Threads, PostedNodesRunInOrderOnTheCarriersThread) {
  constexpr int kMessages = 1000;
  std::vector<int> seen;
  Fiber& self = carrier.running();
  const uint64_t ticket = self.begin_wait(kUninterruptible, {WaitKind::kOther, "test"});
  const std::thread::id here = std::this_thread::get_id();
  std::vector<std::unique_ptr<Message>> messages;
  for (int i = 0; i < kMessages; ++i)
    messages.push_back(std::make_unique<Message>([&, i] {
      EXPECT_EQ(std::this_thread::get_id(), here);
      seen.push_back(i);
      if (i == kMessages - 1) self.unpark(ticket, Wake::kReady);
    }));
  std::thread thread([&] {
    for (auto& message : messages) carrier.post(*message);
  });
  carrier.park();
  thread.join();
  ASSERT_EQ(seen.size(), size_t{kMessages});
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_F(Threads, PostReachesABusyCarrier) {
  std::atomic<bool> stop{false};
  Message message([&] { stop = true; });
  std::thread thread([&] { carrier.post(message); });
  while (!stop) carrier.yield();
  thread.join();
}

TEST_F(Threads, NodeMayFreeItselfWhileItRuns) {
  std::binary_semaphore done(0);
  bool ran = false;
  Message* message = nullptr;
  message = new Message([&] {
    ran = true;
    delete message;
  });
  Message last([&] { done.release(); });
  std::thread thread([&] {
    carrier.post(*message);
    carrier.post(last);
  });
  thread.join();
  while (!done.try_acquire()) carrier.yield();
  EXPECT_TRUE(ran);
}

// --- Attention from signal handlers.

Carrier* g_carrier;
std::atomic<int> g_handled{0};
uint64_t g_ticket;

void handler(int) {
  ++g_handled;
  g_carrier->request_attention();
}

class Attention : public Threads {
 protected:
  void SetUp() override {
    // It holds handlers back until the thread makes a call that it knows to block; ours are none of those.
    if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer delays signal handlers";
    g_carrier = &carrier;
    g_handled = 0;
    struct sigaction action {};
    action.sa_handler = handler;
    sigaction(SIGUSR1, &action, &former_);
  }
  void TearDown() override {
    sigaction(SIGUSR1, &former_, nullptr);
    FiberTest::TearDown();
  }
  struct sigaction former_ {};
};

TEST_F(Attention, HandlerOnAnIdleCarrierGetsItsHookCalled) {
  carrier.set_attention_hook([](Carrier& here) noexcept {
    if (g_handled > 0) here.main_fiber().unpark(g_ticket, Wake::kInterrupted);
  });
  const pthread_t self = pthread_self();
  for (int i = 1; i <= 200; ++i) {
    g_handled = 0;
    g_ticket = carrier.running().begin_wait(kInterruptible, {WaitKind::kOther, "test"});
    std::thread thread([&] { pthread_kill(self, SIGUSR1); });
    EXPECT_EQ(carrier.park(), Wake::kInterrupted);
    thread.join();
  }
}

TEST_F(Attention, HandlerOnAnotherThreadWakesAnIdleCarrierToo) {
  carrier.set_attention_hook([](Carrier& here) noexcept {
    if (g_handled > 0) here.main_fiber().unpark(g_ticket, Wake::kInterrupted);
  });
  g_ticket = carrier.running().begin_wait(kInterruptible, {WaitKind::kOther, "test"});
  std::thread thread([] { raise(SIGUSR1); });
  EXPECT_EQ(carrier.park(), Wake::kInterrupted);
  thread.join();
}

TEST_F(Attention, HandlerOnABusyCarrierGetsItsHookCalledAtTheNextSwitch) {
  static int calls;
  calls = 0;
  carrier.set_attention_hook([](Carrier&) noexcept { ++calls; });
  raise(SIGUSR1);
  EXPECT_EQ(calls, 0);
  carrier.yield();
  EXPECT_EQ(calls, 1);
  carrier.yield();
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace weft::engine::test
