// In what order fibers run: ready ones, yielding ones, sleeping ones.
#include "fixture.hpp"

namespace weft::engine::test {
namespace {

class Scheduling : public FiberTest {};

TEST_F(Scheduling, StartedFibersRunInOrderAndNotBeforeTheStarterLetsGo) {
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 4; ++i) fibers.push_back(spawn([this, i] { note(std::to_string(i)); }));
  EXPECT_TRUE(log.empty());
  carrier.yield();
  EXPECT_EQ(log, (Log{"0", "1", "2", "3"}));
  Engine::join(fibers);
}

TEST_F(Scheduling, YieldLetsEveryReadyFiberRunOnce) {
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 3; ++i)
    fibers.push_back(spawn([this, i] {
      for (int round = 0; round < 3; ++round) {
        note(std::to_string(i) + "." + std::to_string(round));
        carrier.yield();
      }
    }));
  carrier.yield();
  EXPECT_EQ(log, (Log{"0.0", "1.0", "2.0"}));
  Engine::join(fibers);
  EXPECT_EQ(log, (Log{"0.0", "1.0", "2.0", "0.1", "1.1", "2.1", "0.2", "1.2", "2.2"}));
}

TEST_F(Scheduling, YieldWithNobodyElseReturns) {
  for (int i = 0; i < 1000; ++i) carrier.yield();
  EXPECT_EQ(carrier.ready_count(), 0u);
}

TEST_F(Scheduling, WokenFibersQueueBehindThoseThatAreReady) {
  uint64_t ticket = 0;
  Fiber* sleeper = spawn([&] {
    wait(&ticket);
    note("woken");
  });
  carrier.yield();
  Fiber* ready = spawn([&] { note("ready"); });
  sleeper->unpark(ticket, Wake::kReady);
  Engine::join({ready, sleeper});
  EXPECT_EQ(log, (Log{"ready", "woken"}));
}

TEST_F(Scheduling, StartedFiberRunsBeforeThoseThatEventsWoke) {
  uint64_t ticket = 0;
  Fiber* sleeper = spawn([&] {
    wait(&ticket);
    note("woken");
  });
  carrier.yield();
  sleeper->unpark(ticket, Wake::kReady);
  Fiber* started = spawn([&] { note("started"); });
  Engine::join({started, sleeper});
  EXPECT_EQ(log, (Log{"started", "woken"}));
}

// Two fibers hand something to each other, while a third is ready.
struct HandingOver {
  std::atomic<int> turn{0};
  int count = 0;
  bool stop = false;
  std::function<void()> on_turn = [] {};

  void play(int number) {
    while (!stop) {
      ParkingLot::instance().park(&turn, kNever, kUninterruptible, {WaitKind::kLock, "test"},
                                  [&]() noexcept { return turn.load() != number && !stop; });
      if (turn.load() != number) continue;
      ++count;
      on_turn();
      turn.store(1 - number);
      ParkingLot::instance().wake_one(&turn);
    }
    ParkingLot::instance().wake_all(&turn);
  }
};

TEST_F(Scheduling, HandingOverGoesBeforeReadyFibersButStarvesNone) {
  HandingOver game;
  std::vector<Fiber*> players;
  for (int i = 0; i < 2; ++i) players.push_back(spawn([&, i] { game.play(i); }));
  int seen = 0, spread = 0;
  for (int i = 0; i < 10; ++i) {
    carrier.yield();
    spread = std::max(spread, game.count - seen);
    seen = game.count;
  }
  EXPECT_GT(seen, 10 * ReadyQueue::kMaxInRow / 2);
  EXPECT_LE(spread, ReadyQueue::kMaxInRow + 2);
  game.stop = true;
  Engine::join(players);
}

TEST_F(Scheduling, HandingOverEndsWithTheSecondTickOfTheMonitor) {
  HandingOver game;
  game.on_turn = [&] { carrier.ask_for_poll(); };
  std::vector<Fiber*> players;
  for (int i = 0; i < 2; ++i) players.push_back(spawn([&, i] { game.play(i); }));
  carrier.yield();
  const int before = game.count;
  carrier.yield();
  EXPECT_LE(game.count - before, 3);
  game.stop = true;
  Engine::join(players);
}

TEST_F(Scheduling, ManyYieldersGetEqualShares) {
  constexpr int kFibers = 50, kYields = 2000;
  std::vector<int> turns(kFibers);
  std::vector<Fiber*> fibers;
  int spread = 0;
  for (int i = 0; i < kFibers; ++i)
    fibers.push_back(spawn([&, i] {
      for (int n = 0; n < kYields; ++n) {
        ++turns[i];
        spread = std::max(spread, turns[i] - *std::min_element(turns.begin(), turns.end()));
        carrier.yield();
      }
    }));
  Engine::join(fibers);
  EXPECT_LE(spread, 1);
}

TEST_F(Scheduling, SleepersWakeInOrderOfDeadlineAndNeverEarly) {
  const Nanos start = carrier.now();
  std::vector<Fiber*> fibers;
  for (const int delay : {30, 10, 20, 10})
    fibers.push_back(spawn([&, delay] {
      const Nanos deadline = start + delay * kMillisecond;
      EXPECT_EQ(carrier.sleep_until(deadline, kUninterruptible, "sleep"), Wake::kTimeout);
      EXPECT_EQ(carrier.now(), deadline);  // nor late: the fake clock moves by what poll() is told
      note(std::to_string(delay));
    }));
  Engine::join(fibers);
  EXPECT_EQ(log, (Log{"10", "10", "20", "30"}));
}

TEST_F(Scheduling, SleepIntoThePastStillLetsOthersRun) {
  Fiber* other = spawn([&] { note("other"); });
  EXPECT_EQ(carrier.sleep_until(carrier.now() - kSecond, kUninterruptible, "sleep"), Wake::kTimeout);
  EXPECT_EQ(log, Log{"other"});
  Engine::join(other);
}

TEST_F(Scheduling, BusyFibersDoNotKeepASleeperFromItsDeadline) {
  bool awake = false;
  Fiber* sleeper = spawn([&] {
    carrier.sleep_until(carrier.now() + 100, kUninterruptible, "sleep");
    awake = true;
  });
  std::vector<Fiber*> busy;
  for (int i = 0; i < 3; ++i)
    busy.push_back(spawn([&] {
      while (!awake) {
        engine.clock.advance(1);
        carrier.yield();
      }
    }));
  Engine::join(busy);
  Engine::join(sleeper);
  EXPECT_LE(engine.clock.now(), 1000 * kSecond + 100 + 5 * Carrier::kPollInterval);
}

TEST_F(Scheduling, BusyFibersPollAtBoundedIntervalsOfTime) {
  const int before = engine.events.polls;
  bool stop = false;
  Fiber* other = spawn([&] {
    while (!stop) carrier.yield();
  });
  for (int i = 0; i < 1000 * Carrier::kPollInterval; ++i) {
    engine.clock.advance(Carrier::kPollSpacing);
    carrier.yield();
  }
  stop = true;
  EXPECT_GE(engine.events.polls - before, 1000);
  Engine::join(other);
}

TEST_F(Scheduling, BusyFibersPollEvenIfTheClockStandsStill) {
  const int before = engine.events.polls;
  bool stop = false;
  Fiber* other = spawn([&] {
    while (!stop) carrier.yield();
  });
  for (int i = 0; i < 10'000; ++i) carrier.yield();
  stop = true;
  EXPECT_GE(engine.events.polls - before, 5);
  Engine::join(other);
}

TEST_F(Scheduling, ALonelyYielderStillSeesTimersAndEvents) {
  bool awake = false;
  Fiber* sleeper = spawn([&] {
    carrier.sleep_until(carrier.now() + 5000, kUninterruptible, "sleep");
    awake = true;
  });
  const int before = engine.events.polls;
  for (int i = 0; i < 100'000 && !awake; ++i) {
    engine.clock.advance(1);
    carrier.yield();
  }
  EXPECT_TRUE(awake);
  EXPECT_GT(engine.events.polls, before);
  Engine::join(sleeper);
}

TEST_F(Scheduling, MonitorsRequestMakesABusyCarrierPollAtItsNextSwitch) {
  carrier.yield();
  const int before = engine.events.polls;
  carrier.ask_for_poll();
  carrier.yield();
  EXPECT_EQ(engine.events.polls, before + 1);
  carrier.yield();
  EXPECT_EQ(engine.events.polls, before + 1);
}

TEST_F(Scheduling, EventsMakeFibersReady) {
  uint64_t ticket = 0;
  Fiber* reader = spawn([&] {
    wait(&ticket);
    note("event");
  });
  engine.events.on_poll = [&] { return ticket && reader->unpark(std::exchange(ticket, 0), Wake::kReady); };
  Engine::join(reader);
  EXPECT_EQ(log, Log{"event"});
}

TEST_F(Scheduling, StatisticsCountSwitchesAndParksByKind) {
  const Carrier::Stats before = carrier.stats();
  Fiber* fiber = spawn([&] {
    for (int i = 0; i < 10; ++i) carrier.sleep_until(carrier.now() + 1, kUninterruptible, "sleep");
  });
  Engine::join(fiber);
  const Carrier::Stats after = carrier.stats();
  EXPECT_EQ(
      after.parks[static_cast<int>(WaitKind::kSleep)] - before.parks[static_cast<int>(WaitKind::kSleep)],
      10u);
  EXPECT_EQ(after.parks[static_cast<int>(WaitKind::kJoin)] - before.parks[static_cast<int>(WaitKind::kJoin)],
            1u);
  EXPECT_GE(after.switches - before.switches, 2u);
}

TEST_F(Scheduling, FiberKnowsWhatItIs) {
  EXPECT_TRUE(carrier.running().is_main());
  EXPECT_STREQ(carrier.running().name().data(), "main");
  uint64_t ticket = 0;
  Fiber* fiber = spawn([&] {
    EXPECT_EQ(Carrier::running_fiber(), &carrier.running());
    EXPECT_FALSE(carrier.running().is_main());
    carrier.running().set_name("a name longer than fifteen bytes");
    const char local = 0;
    EXPECT_GE(static_cast<const void*>(&local), carrier.running().stack().base);
    EXPECT_LT(static_cast<const void*>(&local), carrier.running().stack().top);
    wait(&ticket, kInterruptible);
  });
  EXPECT_EQ(fiber->state(), Fiber::State::kReady);
  carrier.yield();
  EXPECT_EQ(fiber->state(), Fiber::State::kParked);
  EXPECT_STREQ(fiber->name().data(), "a name longer t");
  EXPECT_STREQ(fiber->wait_reason().call, "test");
  EXPECT_EQ(fiber->waiting_since(), engine.clock.now());
  EXPECT_TRUE(Fiber::is_block(fiber));
  EXPECT_FALSE(Fiber::is_block(this));
  EXPECT_FALSE(Fiber::is_block(reinterpret_cast<char*>(fiber) + 8));
  int seen = 0;
  Fiber::for_each([&](Fiber& each) { seen += &each == fiber; });
  EXPECT_EQ(seen, 1);
  fiber->unpark(ticket, Wake::kReady);
  EXPECT_EQ(fiber->state(), Fiber::State::kReady);
  carrier.yield();
  EXPECT_EQ(fiber->state(), Fiber::State::kDone);
  EXPECT_TRUE(fiber->done());
  fiber->release();
}

}  // namespace
}  // namespace weft::engine::test
