// Messages that are sent later.
#include <atomic>
#include <vector>

#include "unit/sync/library.hpp"

namespace weft::test {
namespace {

struct Clock {
  std::vector<int> seen;
  void tick(int n) { seen.push_back(n); }
  size_t count() const { return seen.size(); }
};

class Timers : public Library {
 protected:
  void SetUp() override { clock_ = Actor<Clock>::start(); }
  void TearDown() override {
    clock_.stop().wait();
    clock_.join();
    Library::TearDown();
  }
  // The messages come from an OS thread.
  size_t await_ticks(size_t count) {
    until([&] {
      sleep(1ms);
      return clock_.ask(&Clock::count).get() >= count;
    });
    return clock_.ask(&Clock::count).get();
  }

  ActorRef<Clock> clock_;
};

TEST_F(Timers, SendInTheOrderOfTheirTimes) {
  const auto began = std::chrono::steady_clock::now();
  clock_.tell_after(30ms, &Clock::tick, 3);
  clock_.tell_after(10ms, &Clock::tick, 1);
  clock_.tell_after(20ms, &Clock::tick, 2);
  EXPECT_EQ(await_ticks(3), 3u);
  EXPECT_GE(std::chrono::steady_clock::now() - began, 30ms);
  EXPECT_EQ(clock_.ask([](Clock& c) { return c.seen; }).get(), (std::vector<int>{1, 2, 3}));
}

TEST_F(Timers, SendAgainAndAgain) {
  MessageTimer timer = clock_.tell_every(1ms, &Clock::tick, 7);
  EXPECT_GE(await_ticks(5), 5u);
  EXPECT_TRUE(timer.cancel());
  EXPECT_FALSE(timer.cancel());
  sleep(5ms);  // one may have been on its way
  const size_t count = clock_.ask(&Clock::count).get();
  sleep(20ms);
  EXPECT_EQ(clock_.ask(&Clock::count).get(), count);
}

TEST_F(Timers, DoNotSendWhatIsCancelled) {
  MessageTimer far = clock_.tell_after(1h, &Clock::tick, 1);
  MessageTimer near = clock_.tell_after(5ms, &Clock::tick, 2);
  EXPECT_TRUE(far.cancel());
  EXPECT_EQ(await_ticks(1), 1u);
  EXPECT_FALSE(near.cancel());
  EXPECT_FALSE(MessageTimer().cancel());
}

TEST_F(Timers, KeepWhatTheySendUntilTheirEnd) {
  auto token = std::make_shared<int>(1);
  MessageTimer timer = clock_.tell_after(1h, [token](Clock&) {});
  EXPECT_EQ(token.use_count(), 2);
  timer.cancel();
  EXPECT_EQ(token.use_count(), 1);
  clock_.tell_after(1ms, [token](Clock& c) { c.tick(1); });
  await_ticks(1);
  until([&] { return token.use_count() == 1; });
}

TEST_F(Timers, EndWithTheirActor) {
  auto other = Actor<Clock>::start();
  auto token = std::make_shared<int>(1);
  MessageTimer timer = other.tell_every(1ms, [token](Clock& c) { c.tick(1); });
  other.stop().wait();
  other.join();
  until([&] { return token.use_count() == 1; });
  EXPECT_FALSE(timer.cancel());
}

TEST_F(Timers, MayBeManyAtOnce) {
  std::vector<MessageTimer> timers;
  for (int i = 0; i < 10'000; ++i) timers.push_back(clock_.tell_after(1h + i * 1ms, &Clock::tick, i));
  for (MessageTimer& timer : timers) EXPECT_TRUE(timer.cancel());
  for (int i = 0; i < 1'000; ++i) clock_.tell_after(1ms, &Clock::tick, i);
  EXPECT_EQ(await_ticks(1'000), 1'000u);
}

TEST_F(Timers, RefusePeriodsThatAreNone) {
  EXPECT_THROW(clock_.tell_every(0ms, &Clock::tick, 1), std::invalid_argument);
  EXPECT_THROW(clock_.tell_every(-1ms, &Clock::tick, 1), std::invalid_argument);
  clock_.tell_after(-1ms, &Clock::tick, 1);
  EXPECT_EQ(await_ticks(1), 1u);
}

}  // namespace
}  // namespace weft::test
