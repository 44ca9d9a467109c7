// How a wait ends: once, by whoever comes first, and only as its contract allows.
#include "fixture.hpp"

namespace weft::engine::test {
namespace {

class Waiting : public FiberTest {
 protected:
  // A fiber that waits with `flags`, its ticket in ticket_, and notes how that ended in wakes_.
  Fiber* waiter(uint8_t flags = kUninterruptible, Nanos deadline = kNever) {
    Fiber* fiber = spawn([this, flags, deadline] { wakes_.push_back(wait(&ticket_, flags, deadline)); });
    carrier.yield();
    return fiber;
  }
  uint64_t ticket_ = 0;
  std::vector<Wake> wakes_;
};

TEST_F(Waiting, FirstUnparkWinsAndLaterOnesFindTheTicketSpent) {
  Fiber* fiber = waiter();
  EXPECT_TRUE(fiber->unpark(ticket_, Wake::kClosed));
  EXPECT_FALSE(fiber->unpark(ticket_, Wake::kReady));
  EXPECT_FALSE(fiber->unpark(ticket_, Wake::kTimeout));
  fiber->retain();
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kClosed});
  EXPECT_FALSE(fiber->unpark(ticket_, Wake::kReady));
  fiber->release();
}

TEST_F(Waiting, TicketOfAnEarlierWaitDoesNotEndALaterOne) {
  uint64_t first = 0, second = 0;
  Fiber* fiber = spawn([&] {
    wait(&first);
    wait(&second);
    note("both");
  });
  carrier.yield();
  EXPECT_TRUE(fiber->unpark(first, Wake::kReady));
  carrier.yield();
  EXPECT_NE(first, second);
  EXPECT_FALSE(fiber->unpark(first, Wake::kReady));
  carrier.yield();
  EXPECT_TRUE(log.empty());
  EXPECT_TRUE(fiber->unpark(second, Wake::kReady));
  Engine::join(fiber);
}

TEST_F(Waiting, TicketOfAFiberThatIsGoneDoesNotFitTheNextInItsBlock) {
  Fiber* old = waiter();
  const uint64_t stale = ticket_;
  old->unpark(stale, Wake::kReady);
  Engine::join(old);
  engine.settle();
  // Blocks are reused, last freed first; the main fiber's reap comes with the next create.
  std::vector<Fiber*> fibers;
  bool reused = false;
  for (int i = 0; i < 3; ++i) {
    fibers.push_back(waiter());
    if (fibers.back() == old) reused = true;
    EXPECT_NE(ticket_, stale);
    EXPECT_FALSE(fibers.back()->unpark(stale, Wake::kReady));
    EXPECT_TRUE(fibers.back()->unpark(ticket_, Wake::kReady));
  }
  EXPECT_TRUE(reused);
  Engine::join(fibers);
}

TEST_F(Waiting, UnparkBetweenAnnouncementAndParkIsNotLost) {
  Fiber& self = carrier.running();
  const uint64_t ticket = self.begin_wait(kUninterruptible, {WaitKind::kOther, "test"});
  EXPECT_TRUE(self.unpark(ticket, Wake::kReady));
  EXPECT_EQ(carrier.park(kNever), Wake::kReady);
}

TEST_F(Waiting, WaitThatEndedBeforeItsParkLeavesNoTimerBehind) {
  Fiber& self = carrier.running();
  for (int i = 0; i < 3; ++i) {
    const uint64_t ticket = self.begin_wait(kUninterruptible, {WaitKind::kOther, "test"});
    EXPECT_TRUE(self.unpark(ticket, Wake::kReady));
    EXPECT_EQ(carrier.park(carrier.now() + kSecond), Wake::kReady);
    EXPECT_EQ(carrier.pending_timers(), 0u);
  }
  EXPECT_EQ(carrier.sleep_until(carrier.now() + 2 * kSecond, kUninterruptible, "sleep"), Wake::kTimeout);
}

TEST_F(Waiting, WokenInTimeMeansNoTimeout) {
  Fiber* fiber = waiter(kUninterruptible, carrier.now() + kSecond);
  EXPECT_EQ(carrier.pending_timers(), 1u);
  fiber->unpark(ticket_, Wake::kReady);
  engine.clock.advance(2 * kSecond);  // its time passes before it runs
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kReady});
  EXPECT_EQ(carrier.pending_timers(), 0u);
}

TEST_F(Waiting, TimeoutSpendsTheTicket) {
  Fiber* fiber = waiter(kUninterruptible, carrier.now() + kSecond);
  fiber->retain();
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kTimeout});
  EXPECT_FALSE(fiber->unpark(ticket_, Wake::kReady));
  fiber->release();
}

TEST_F(Waiting, CancelBeforeTheFirstRunEndsItsFirstCancellableWait) {
  Fiber* fiber = spawn([&] { wakes_.push_back(wait(nullptr, kCancellable)); });
  fiber->cancel();
  EXPECT_TRUE(fiber->cancel_requested());
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kCancelled});
}

TEST_F(Waiting, CancelledBeforeATimedWaitLeavesNoTimerBehind) {
  Fiber* fiber = spawn([&] {
    carrier.running().cancel();
    for (int i = 0; i < 3; ++i) wakes_.push_back(wait(nullptr, kCancellable, carrier.now() + kSecond));
    EXPECT_EQ(carrier.pending_timers(), 0u);
    carrier.running().clear_cancel();
    wakes_.push_back(wait(nullptr, kCancellable, carrier.now() + kSecond));
  });
  Engine::join(fiber);
  EXPECT_EQ(wakes_, (std::vector{Wake::kCancelled, Wake::kCancelled, Wake::kCancelled, Wake::kTimeout}));
}

TEST_F(Waiting, CancelDuringACancellableWaitEndsIt) {
  Fiber* fiber = waiter(kCancellable);
  fiber->cancel();
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kCancelled});
}

TEST_F(Waiting, CancelDuringAnotherWaitWaitsForTheNextCancellableOne) {
  Fiber* fiber = spawn([&] {
    wakes_.push_back(wait(&ticket_, kInterruptible));
    wakes_.push_back(wait(nullptr, kCancellable));
    wakes_.push_back(wait(nullptr, kCancellable));
    carrier.running().clear_cancel();
    wakes_.push_back(wait(&ticket_, kCancellable));
  });
  carrier.yield();
  fiber->cancel();
  carrier.yield();
  EXPECT_EQ(fiber->state(), Fiber::State::kParked);
  EXPECT_TRUE(fiber->unpark(ticket_, Wake::kReady));
  engine.settle();
  EXPECT_TRUE(fiber->unpark(ticket_, Wake::kReady));
  Engine::join(fiber);
  EXPECT_EQ(wakes_, (std::vector{Wake::kReady, Wake::kCancelled, Wake::kCancelled, Wake::kReady}));
}

TEST_F(Waiting, CancelAfterTheWaitEndedChangesNothingAboutIt) {
  Fiber* fiber = waiter(kCancellable);
  EXPECT_TRUE(fiber->unpark(ticket_, Wake::kReady));
  fiber->cancel();
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kReady});
}

TEST_F(Waiting, InterruptEndsInterruptibleWaitsOnly) {
  Fiber* stubborn = waiter(kCancellable);
  EXPECT_FALSE(stubborn->interrupt(false));
  EXPECT_TRUE(stubborn->unpark(ticket_, Wake::kReady));
  Fiber* polite = waiter(kInterruptible);
  EXPECT_TRUE(polite->interrupt(false));
  EXPECT_FALSE(polite->interrupt(false));
  Engine::join({stubborn, polite});
  EXPECT_EQ(wakes_, (std::vector{Wake::kReady, Wake::kInterrupted}));
}

TEST_F(Waiting, RestartingHandlerSparesRestartableWaits) {
  Fiber* restartable = waiter(kInterruptible | kRestartable);
  EXPECT_FALSE(restartable->interrupt(true));
  EXPECT_TRUE(restartable->interrupt(false));
  Fiber* plain = waiter(kInterruptible);
  EXPECT_TRUE(plain->interrupt(true));
  Engine::join({restartable, plain});
  EXPECT_EQ(wakes_, (std::vector{Wake::kInterrupted, Wake::kInterrupted}));
}

TEST_F(Waiting, InterruptOfAFiberThatDoesNotWaitIsNothing) {
  Fiber* fiber = spawn([] {});
  EXPECT_FALSE(fiber->interrupt(false));
  EXPECT_FALSE(fiber->end_wait_if(kCancellable, Wake::kCancelled));
  Engine::join(fiber);
}

TEST_F(Waiting, ResultIsSeenByTheJoiner) {
  static int value;
  Fiber* fiber = Fiber::create(
      carrier, [](void* argument) { return argument; }, &value, StackPool::kMinimumSize);
  ASSERT_NE(fiber, nullptr);
  carrier.start(*fiber);
  fiber->retain();
  Engine::join(fiber);
  EXPECT_EQ(fiber->result(), &value);
  fiber->release();
}

TEST_F(Waiting, ExitFromWithinEndsTheFiberWithItsResult) {
  int value = 0;
  Fiber* fiber = Fiber::create(
      carrier, [](void* argument) -> void* { Carrier::current()->exit_fiber(argument); }, &value,
      StackPool::kMinimumSize);
  ASSERT_NE(fiber, nullptr);
  carrier.start(*fiber);
  fiber->retain();
  Engine::join(fiber);
  EXPECT_EQ(fiber->result(), &value);
  fiber->release();
}

TEST_F(Waiting, ManyMayJoinOneFiber) {
  uint64_t ticket = 0;
  Fiber* target = spawn([&] { wait(&ticket); });
  std::vector<Fiber*> joiners;
  int joined = 0;
  for (int i = 0; i < 10; ++i) {
    target->retain();
    joiners.push_back(spawn([&] {
      Engine::join(target);
      ++joined;
    }));
  }
  carrier.yield();
  EXPECT_EQ(joined, 0);
  target->unpark(ticket, Wake::kReady);
  Engine::join(joiners);
  EXPECT_EQ(joined, 10);
  Engine::join(target);
}

TEST_F(Waiting, FiberThatNeverStartedGoesWithItsLastReference) {
  Fiber* fiber = Fiber::create(
      carrier, [](void*) -> void* { return nullptr; }, nullptr, StackPool::kMinimumSize);
  ASSERT_NE(fiber, nullptr);
  EXPECT_EQ(Fiber::counts().alive, 1u);
  const Stack stack = fiber->stack();
  fiber->release();
  EXPECT_EQ(Fiber::counts().alive, 0u);
  const Stack next = StackPool::instance().allocate(StackPool::kMinimumSize);
  EXPECT_EQ(next.base, stack.base);
  StackPool::instance().release(next);
}

TEST_F(Waiting, FreshFiberInheritsNothingFromTheLastInItsBlock) {
  Fiber* first = spawn([&] {
    carrier.running().identity().set_specific(3, this);
    carrier.running().attachment = this;
    carrier.running().detached = true;
    carrier.running().set_name("first");
    errno = 7;
  });
  first->cancel();
  Engine::join(first);
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 3; ++i)
    fibers.push_back(spawn([&] {
      Fiber& self = carrier.running();
      EXPECT_EQ(self.identity().specific(3), nullptr);
      EXPECT_EQ(self.attachment, nullptr);
      EXPECT_FALSE(self.detached);
      EXPECT_FALSE(self.cancel_requested());
      EXPECT_STREQ(self.name().data(), "");
      EXPECT_EQ(self.result(), nullptr);
      EXPECT_EQ(errno, 0);
    }));
  Engine::join(fibers);
}

TEST_F(Waiting, TheExpiryOfAScopeEndsACancellableWait) {
  const Nanos expiry = carrier.now() + kSecond;
  Fiber* fiber = spawn([&] {
    carrier.running().set_expiry(expiry);
    wakes_.push_back(wait(nullptr, kCancellable));
    wakes_.push_back(wait(nullptr, kCancellable, expiry + kSecond));
    carrier.running().set_expiry(kNever);
  });
  Engine::join(fiber);
  EXPECT_EQ(wakes_, (std::vector{Wake::kExpired, Wake::kExpired}));
  EXPECT_EQ(carrier.now(), expiry);
}

TEST_F(Waiting, ANearerDeadlineOfTheWaitItselfIsATimeout) {
  Fiber* fiber = spawn([&] {
    carrier.running().set_expiry(carrier.now() + 2 * kSecond);
    wakes_.push_back(wait(nullptr, kCancellable, carrier.now() + kSecond));
    carrier.running().set_expiry(kNever);
  });
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kTimeout});
}

TEST_F(Waiting, AnUncancellableWaitHasNoExpiry) {
  Fiber* fiber = spawn([&] {
    carrier.running().set_expiry(carrier.now() + kSecond);
    wakes_.push_back(wait(nullptr, kUninterruptible, carrier.now() + 2 * kSecond));
    EXPECT_EQ(carrier.running().revocation(), Wake::kExpired);
    carrier.running().set_expiry(kNever);
  });
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kTimeout});
}

TEST_F(Waiting, AShieldHidesACancellationButNoExpiry) {
  Fiber* fiber = spawn([&] {
    Fiber& self = carrier.running();
    ++self.shields;
    self.cancel();
    wakes_.push_back(wait(nullptr, kCancellable, carrier.now() + kSecond));
    self.set_expiry(carrier.now() + kSecond);
    wakes_.push_back(wait(nullptr, kCancellable));
    self.set_expiry(kNever);
    EXPECT_EQ(self.revocation(), Wake::kReady);
    --self.shields;
    EXPECT_EQ(self.revocation(), Wake::kCancelled);
    wakes_.push_back(wait(nullptr, kCancellable));
  });
  Engine::join(fiber);
  EXPECT_EQ(wakes_, (std::vector{Wake::kTimeout, Wake::kExpired, Wake::kCancelled}));
}

TEST_F(Waiting, ACancelFromOutsideDoesNotEndAShieldedWait) {
  uint64_t ticket = 0;
  Fiber* fiber = spawn([&] {
    ++carrier.running().shields;
    wakes_.push_back(wait(&ticket, kCancellable));
    --carrier.running().shields;
  });
  carrier.yield();
  fiber->cancel();
  carrier.yield();
  EXPECT_TRUE(wakes_.empty());
  EXPECT_TRUE(fiber->unpark(ticket, Wake::kReady));
  Engine::join(fiber);
  EXPECT_EQ(wakes_, std::vector{Wake::kReady});
}

}  // namespace
}  // namespace weft::engine::test
