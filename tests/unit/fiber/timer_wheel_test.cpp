#include "fiber/timer_wheel.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace weft::engine {
namespace {

// A timer that knows its number, so that a test can tell which fired.
struct Numbered : Timer {
  explicit Numbered(int n = 0) : number(n) { owner = this; }
  int number;
};

std::vector<int> expire(TimerWheel& wheel, Nanos now) {
  std::vector<int> fired;
  wheel.expire(now, [&](Timer& timer) {
    EXPECT_FALSE(timer.pending());
    EXPECT_LE(timer.deadline, now);
    fired.push_back(static_cast<Numbered*>(timer.owner)->number);
  });
  return fired;
}

TEST(TimerWheel, EmptyHasNoDeadlineAndFiresNothing) {
  TimerWheel wheel;
  EXPECT_TRUE(wheel.empty());
  EXPECT_EQ(wheel.next_deadline(), kNever);
  EXPECT_TRUE(expire(wheel, kSecond).empty());
}

TEST(TimerWheel, FiresNotANanosecondEarly) {
  for (const Nanos deadline :
       {Nanos{1}, Nanos{63}, Nanos{64}, Nanos{4095}, Nanos{4096}, kSecond, 3600 * kSecond}) {
    TimerWheel wheel;
    Numbered timer(1);
    wheel.insert(timer, deadline);
    EXPECT_EQ(wheel.next_deadline(), deadline);
    EXPECT_TRUE(expire(wheel, deadline - 1).empty()) << deadline;
    EXPECT_TRUE(timer.pending());
    EXPECT_EQ(expire(wheel, deadline), std::vector{1}) << deadline;
    EXPECT_TRUE(wheel.empty());
  }
}

TEST(TimerWheel, FiresInOrderOfDeadlineWithinOneExpire) {
  TimerWheel wheel;
  Numbered late(3), early(1), middle(2);
  wheel.insert(late, 70'000);
  wheel.insert(early, 65'001);
  wheel.insert(middle, 65'002);
  EXPECT_EQ(expire(wheel, kSecond), (std::vector{1, 2, 3}));
}

TEST(TimerWheel, EqualDeadlinesFireInOrderOfInsertionHoweverTheyTravelled) {
  TimerWheel wheel;
  constexpr Nanos kDeadline = 1'000'000;
  Numbered first(1), second(2), third(3), step(0), step2(0);
  wheel.insert(first, kDeadline);
  wheel.insert(step, 999'000);  // brings the wheel near, so that the next is inserted at a lower level
  EXPECT_EQ(expire(wheel, 999'000), std::vector{0});
  wheel.insert(second, kDeadline);
  wheel.insert(step2, 999'990);
  EXPECT_EQ(expire(wheel, 999'990), std::vector{0});
  wheel.insert(third, kDeadline);
  EXPECT_EQ(expire(wheel, kDeadline), (std::vector{1, 2, 3}));
}

TEST(TimerWheel, DeadlineInThePastIsDueAtTheNextExpire) {
  TimerWheel wheel;
  expire(wheel, kSecond);
  Numbered past(1), negative(2), present(3);
  wheel.insert(past, kSecond / 2);
  wheel.insert(negative, -5);
  wheel.insert(present, kSecond);
  EXPECT_LE(wheel.next_deadline(), kSecond);
  EXPECT_EQ(expire(wheel, kSecond), (std::vector{1, 2, 3}));
}

TEST(TimerWheel, FarDeadlinesStayPending) {
  TimerWheel wheel;
  expire(wheel, kSecond);
  Numbered never(1), almost(2), soon(3);
  wheel.insert(never, kNever);
  wheel.insert(almost, kNever - 1);
  wheel.insert(soon, 2 * kSecond);
  EXPECT_EQ(wheel.next_deadline(), 2 * kSecond);
  EXPECT_EQ(expire(wheel, kNever - 2), std::vector{3});
  EXPECT_EQ(expire(wheel, kNever - 1), std::vector{2});
  EXPECT_EQ(expire(wheel, kNever), std::vector{1});
}

TEST(TimerWheel, RemovedTimerNeitherFiresNorCountsForTheNextDeadline) {
  TimerWheel wheel;
  Numbered gone(1), stays(2);
  wheel.insert(gone, 100);
  wheel.insert(stays, 1'000'000);
  wheel.remove(gone);
  EXPECT_FALSE(gone.pending());
  EXPECT_EQ(wheel.size(), 1u);
  EXPECT_EQ(wheel.next_deadline(), 1'000'000);
  EXPECT_EQ(expire(wheel, 1'000'000), std::vector{2});
}

TEST(TimerWheel, FireMayInsertWithoutBeingCalledForItAgain) {
  TimerWheel wheel;
  Numbered again(1);
  int fired = 0;
  const auto reinsert = [&](Timer& timer) {
    ++fired;
    wheel.insert(timer, 0);
  };
  wheel.insert(again, 10);
  wheel.expire(10, reinsert);
  EXPECT_EQ(fired, 1);
  EXPECT_TRUE(again.pending());
  EXPECT_LE(wheel.next_deadline(), 10);
  wheel.expire(10, reinsert);
  EXPECT_EQ(fired, 2);
}

TEST(TimerWheel, FireMayRemoveTimersDueTogetherWithIt) {
  TimerWheel wheel;
  Numbered first(1), second(2), third(3), later(4);
  wheel.insert(first, 10);
  wheel.insert(second, 10);
  wheel.insert(third, 20);
  wheel.insert(later, kSecond);
  std::vector<int> fired;
  wheel.expire(30, [&](Timer& timer) {
    fired.push_back(static_cast<Numbered&>(timer).number);
    if (&timer == &first) {
      wheel.remove(second);
      wheel.remove(later);
    }
    // Those collected, but not fired yet, are pending; next_deadline() speaks of the others.
    EXPECT_EQ(wheel.next_deadline(), kNever);
  });
  EXPECT_EQ(fired, (std::vector{1, 3}));
  EXPECT_TRUE(wheel.empty());
}

TEST(TimerWheel, ClearForgetsAll) {
  TimerWheel wheel;
  Numbered timer(1), fresh(2);
  wheel.insert(timer, 500);
  wheel.clear();
  EXPECT_TRUE(wheel.empty());
  EXPECT_EQ(wheel.next_deadline(), kNever);
  wheel.insert(fresh, 600);
  EXPECT_EQ(expire(wheel, 1000), std::vector{2});
}

// Does at random what a carrier does, next to a model that cannot be wrong.
void compare_with_model(uint32_t seed, Nanos start, Nanos spread) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << " start " << start << " spread " << spread);
  std::mt19937_64 random(seed);
  constexpr int kTimers = 500;
  std::vector<Numbered> timers;
  for (int i = 0; i < kTimers; ++i) timers.emplace_back(i);
  for (auto& timer : timers) timer.owner = &timer;
  std::multimap<Nanos, int> model;
  std::vector<std::multimap<Nanos, int>::iterator> place(kTimers, model.end());
  TimerWheel wheel;
  Nanos now = start;
  expire(wheel, now);
  const auto upto = [&](Nanos limit) { return static_cast<Nanos>(random() % static_cast<uint64_t>(limit)); };

  for (int step = 0; step < 20'000; ++step) {
    const int i = static_cast<int>(random() % kTimers);
    switch (random() % 4) {
      case 0:
      case 1:
        if (!timers[i].pending()) {
          const Nanos deadline = later(now, 1 + (random() % 8 == 0 ? upto(spread) : upto(spread / 100 + 1)));
          wheel.insert(timers[i], deadline);
          place[i] = model.emplace(deadline, i);
        }
        break;
      case 2:
        if (timers[i].pending() && random() % 3 == 0) {
          wheel.remove(timers[i]);
          model.erase(place[i]);
        }
        break;
      default:
        // Often exactly to a deadline, or to just before one.
        if (!model.empty() && random() % 2)
          now = std::max(now, model.begin()->first - static_cast<Nanos>(random() % 2));
        else
          now += upto(spread / 200 + 1);
        std::vector<int> expected;
        while (!model.empty() && model.begin()->first <= now) {
          expected.push_back(model.begin()->second);
          model.erase(model.begin());
        }
        ASSERT_EQ(expire(wheel, now), expected) << "step " << step;
    }
    ASSERT_EQ(wheel.size(), model.size());
    if (model.empty())
      ASSERT_EQ(wheel.next_deadline(), kNever);
    else
      ASSERT_LE(wheel.next_deadline(), model.begin()->first);
  }
}

TEST(TimerWheel, BehavesLikeAMultimap) {
  const auto seed = std::random_device()();
  for (const Nanos spread :
       {Nanos{100}, 10 * kMicrosecond, 10 * kMillisecond, 100 * kSecond, 1'000'000 * kSecond})
    for (const Nanos start : {Nanos{0}, Nanos{64 * 64 - 3}, 12'345 * kSecond})
      compare_with_model(seed, start, spread);
}

// Timers that are set and nearly always removed, as those of I/O waits are: however many pend, an insert is
// one placement.
TEST(TimerWheel, WorkDoesNotGrowWithTheNumberPending) {
  const auto placements_for_1000 = [](int pending) {
    std::vector<Numbered> others(static_cast<size_t>(pending));
    std::mt19937_64 random(1);
    TimerWheel wheel;
    expire(wheel, 1000 * kSecond);
    for (auto& timer : others)
      wheel.insert(timer, 1100 * kSecond + static_cast<Nanos>(random() % (60 * kSecond)));
    const uint64_t before = wheel.placements();
    Numbered timer;
    Nanos now = 1000 * kSecond;
    for (int i = 0; i < 1000; ++i) {
      wheel.insert(timer, now + 30 * kSecond);
      wheel.remove(timer);
      wheel.insert(timer, now += kMillisecond);
      EXPECT_EQ(expire(wheel, now).size(), 1u);
    }
    return wheel.placements() - before;
  };
  const uint64_t few = placements_for_1000(100), many = placements_for_1000(100'000);
  EXPECT_LE(many, few + few / 10);
  EXPECT_LE(few, 1000u * 11);
}

TEST(TimerWheel, EachTimerMovesAtMostOnceALevel) {
  constexpr int kTimers = 100'000;
  std::vector<Numbered> timers(kTimers);
  std::mt19937_64 random(2);
  TimerWheel wheel;
  for (auto& timer : timers) wheel.insert(timer, static_cast<Nanos>(random() % (100 * kSecond)));
  size_t fired = 0;
  for (Nanos now = 0; !wheel.empty(); now += kMillisecond) wheel.expire(now, [&](Timer&) { ++fired; });
  EXPECT_EQ(fired, size_t{kTimers});
  EXPECT_LE(wheel.placements(), uint64_t{kTimers} * 7);  // 100 s are 37 bits: seven digits
}

}  // namespace
}  // namespace weft::engine
