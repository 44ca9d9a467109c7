// Task groups, timeout scopes, shields.
#include <string>
#include <vector>

#include "library.hpp"

namespace weft::test {
namespace {

class Groups : public Library {};

TEST_F(Groups, WaitsForAll) {
  int count = 0;
  TaskGroup group;
  for (int i = 0; i < 10; ++i)
    static_cast<void>(group.spawn([&] {
      this_fiber::yield();
      ++count;
    }));
  group.join();
  EXPECT_EQ(count, 10);
  group.join();
  auto again = group.spawn([] { return 4; });
  group.join();
  EXPECT_EQ(again.result(), 4);
}

TEST_F(Groups, TheFirstFailureCancelsTheRest) {
  TaskGroup group;
  auto sleeper = group.spawn([] { sleep(1h); });
  auto failing = group.spawn([] { throw std::runtime_error("first"); });
  EXPECT_THROW(group.join(), std::runtime_error);
  EXPECT_THROW(sleeper.result(), Cancelled);
  EXPECT_THROW(failing.result(), std::runtime_error);
  EXPECT_EQ(group.errors().size(), 1u);
  EXPECT_TRUE(group.cancelled());
  // It can be used again.
  static_cast<void>(group.spawn([] {}));
  group.join();
  EXPECT_FALSE(group.cancelled());
}

TEST_F(Groups, AFailureEndsTheOwnersWaits) {
  bool left = false;
  auto owner = spawn([&] {
    TaskGroup group;
    static_cast<void>(group.spawn([] { throw std::out_of_range("x"); }));
    try {
      sleep(1h);
      ADD_FAILURE();
    } catch (const Cancelled&) {
      left = true;
    }
    EXPECT_THROW(group.join(), std::out_of_range);
    sleep(1ms);  // the owner itself goes on
  });
  owner.result();
  EXPECT_TRUE(left);
}

TEST_F(Groups, RunThrowsWhatAFiberThrew) {
  auto failing = [](TaskGroup& group) {
    static_cast<void>(group.spawn([] { throw std::out_of_range("x"); }));
    sleep(1h);
  };
  spawn([&] { EXPECT_THROW(TaskGroup::run(failing), std::out_of_range); }).result();
  spawn([&] {
    EXPECT_THROW(TaskGroup::run([&](TaskGroup&) { TaskGroup::run(failing); }), std::out_of_range);
    sleep(1ms);  // the owner itself goes on
  }).result();
}

TEST_F(Groups, RunReturnsWhenItsGroupWasCancelled) {
  Fiber<> child;
  spawn([&] {
    TaskGroup::run([&](TaskGroup& group) {
      child = group.spawn([] { sleep(1h); });
      static_cast<void>(group.spawn([&] { group.cancel(); }));
      sleep(1h);
    });
    sleep(1ms);
  }).result();
  EXPECT_THROW(child.result(), Cancelled);
}

TEST_F(Groups, RunThrowsWhatItsBodyThrew) {
  Fiber<> child;
  EXPECT_THROW(TaskGroup::run([&](TaskGroup& group) {
                 child = group.spawn([] { sleep(1h); });
                 throw std::out_of_range("x");
               }),
               std::out_of_range);
  EXPECT_TRUE(child.done());
}

TEST_F(Groups, RunIsCancelledWithItsOwner) {
  Fiber<> child;
  auto owner = spawn([&] {
    TaskGroup::run([&](TaskGroup& group) {
      child = group.spawn([] { sleep(1h); });
      sleep(1h);
    });
    ADD_FAILURE();
  });
  until_parked(owner);
  owner.cancel();
  EXPECT_THROW(owner.result(), Cancelled);
  EXPECT_TRUE(child.done());
  // And where both come together.
  auto both = spawn([&] {
    TaskGroup::run([&](TaskGroup& group) {
      group.cancel();
      sleep(1h);
    });
    ADD_FAILURE();
  });
  both.cancel();
  EXPECT_THROW(both.result(), Cancelled);
}

TEST_F(Groups, CancelOutsideOfItsBlockDoesNotTouchTheOwner) {
  spawn([] {
    { TaskGroup().cancel(); }
    sleep(1ms);
    TaskGroup group;
    static_cast<void>(group.spawn([] {}));
    group.join();
    group.cancel();
    sleep(1ms);
    auto again = group.spawn([] { sleep(1ms); });
    group.join();
    again.result();
    sleep(1ms);
  }).result();
}

TEST_F(Groups, ACancelledOwnerTakesItsGroupAlong) {
  Fiber<> child;
  auto owner = spawn([&] {
    TaskGroup group;
    child = group.spawn([] { sleep(1h); });
    group.join();
  });
  until_parked(owner);
  owner.cancel();
  EXPECT_THROW(owner.result(), Cancelled);
  EXPECT_THROW(child.result(), Cancelled);
}

TEST_F(Groups, ATimeoutAroundItToo) {
  Fiber<> child;
  EXPECT_THROW(timeout(5ms,
                       [&] {
                         TaskGroup group;
                         child = group.spawn([] { sleep(1h); });
                         group.join();
                       }),
               Timeout);
  EXPECT_THROW(child.result(), Cancelled);
}

TEST_F(Groups, IsLeftByAnExceptionOnlyOnceAllHaveEnded) {
  bool ended = false;
  try {
    TaskGroup group;
    static_cast<void>(group.spawn([&] {
      try {
        sleep(1h);
      } catch (const Cancelled&) {
        ended = true;
        throw;
      }
    }));
    this_fiber::yield();
    throw std::runtime_error("body");
  } catch (const std::runtime_error&) {
    EXPECT_TRUE(ended);
  }
}

TEST_F(Groups, NestedOnesAreCancelledFromOutsideIn) {
  std::vector<std::string> order;
  TaskGroup outer;
  static_cast<void>(outer.spawn([&] {
    try {
      TaskGroup inner;
      static_cast<void>(inner.spawn([&] {
        try {
          sleep(1h);
        } catch (const Cancelled&) {
          order.push_back("inner");
          throw;
        }
      }));
      inner.join();
    } catch (const Cancelled&) {
      order.push_back("outer");
      throw;
    }
  }));
  this_fiber::yield();
  this_fiber::yield();
  static_cast<void>(outer.spawn([] { throw std::runtime_error("x"); }));
  EXPECT_THROW(outer.join(), std::runtime_error);
  EXPECT_EQ(order, (std::vector<std::string>{"inner", "outer"}));
}

TEST_F(Groups, OnANativeThread) {
  std::thread native([] {
    TaskGroup group;
    static_cast<void>(group.spawn([] { throw std::runtime_error("x"); }));
    static_cast<void>(group.spawn([] { sleep(1h); }));
    EXPECT_THROW(group.join(), std::runtime_error);
  });
  spawn([&] { offload([&] { native.join(); }); }).join();
}

TEST_F(Groups, AcrossCarriers) {
  Runtime runtime({.carriers = 2});
  for (int round = 0; round < 50; ++round) {
    TaskGroup group;
    std::atomic<int> cancelled{0};
    for (int i = 0; i < 6; ++i)
      static_cast<void>(group.spawn(
          [&] {
            try {
              sleep(1h);
            } catch (const Cancelled&) {
              ++cancelled;
              throw;
            }
          },
          {.carrier = i % 2}));
    static_cast<void>(group.spawn([] { throw 1; }));
    EXPECT_THROW(group.join(), int);
    EXPECT_LE(cancelled, 6);
  }
}

class Scopes : public Library {};

TEST_F(Scopes, ATimeoutEndsAWait) {
  EXPECT_THROW(timeout(1ms, [] { sleep(1h); }), Timeout);
  EXPECT_EQ(timeout(1h, [] { return 3; }), 3);
  sleep(1ms);  // nothing is left
}

TEST_F(Scopes, TheNearestCounts) {
  TimeoutScope outer(1ms);
  try {
    TimeoutScope inner(1h);
    sleep(2h);
    ADD_FAILURE();
  } catch (const Timeout&) {
    EXPECT_TRUE(outer.expired());
  }
  EXPECT_THROW(sleep(1h), Timeout) << "it stays expired";
}

TEST_F(Scopes, AnInnerOneIsOverWithItsScope) {
  TimeoutScope outer(1h);
  EXPECT_THROW(timeout(1ms, [] { sleep(2h); }), Timeout);
  EXPECT_FALSE(outer.expired());
  sleep(1ms);
}

TEST_F(Scopes, ShieldedWaitsAreNotEnded) {
  bool cleaned = false;
  auto fiber = spawn([&] {
    try {
      sleep(1h);
    } catch (const Cancelled&) {
      shield([&] {
        sleep(1ms);
        EXPECT_THROW(timeout(1ms, [] { sleep(1h); }), Timeout);
        cleaned = true;
      });
      EXPECT_THROW(sleep(1ms), Cancelled);
      throw;
    }
  });
  until_parked(fiber);
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
  EXPECT_TRUE(cleaned);
}

TEST_F(Scopes, AShieldKeepsAnOuterDeadlineOut) {
  TimeoutScope outer(1ms);
  shield([] { sleep(5ms); });
  EXPECT_THROW(this_fiber::check(), Timeout);
}

TEST_F(Scopes, NegativeSpansAreOverAtOnce) {
  EXPECT_THROW(timeout(-1s, [] { sleep(0s); }), Timeout);
  sleep(-1s);
}

TEST_F(Scopes, ATimeoutDoesNotReadAsAFailureOfTheNetwork) {
  try {
    timeout(1ms, [] { sleep(1h); });
    ADD_FAILURE();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::make_error_code(std::errc::timed_out));
    EXPECT_STREQ(error.what(), "weft: the time limit has passed");
    const auto copy = dynamic_cast<const Timeout&>(error);
    EXPECT_STREQ(copy.what(), error.what());
  }
  EXPECT_STREQ(Timeout("read").what(), "read: the time limit has passed");
}

TEST_F(Scopes, Futures) {
  Promise<std::string> promise;
  auto future = promise.future();
  EXPECT_FALSE(future.wait_for(1ms));
  auto setter = spawn([&] { EXPECT_TRUE(promise.set("value")); });
  EXPECT_EQ(future.get(), "value");
  EXPECT_FALSE(promise.set("other"));
  setter.result();
  Future<void> broken;
  {
    Promise<void> forgotten;
    broken = forgotten.future();
  }
  EXPECT_THROW(broken.get(), BrokenPromise);
  EXPECT_THROW(Future<int>().get(), std::logic_error);
  Promise<int> failed;
  failed.set_exception(std::make_exception_ptr(std::out_of_range("x")));
  EXPECT_THROW(failed.future().get(), std::out_of_range);
}

TEST_F(Scopes, NullIsNoExceptionOfAFuture) {
  Promise<std::string> promise;
  EXPECT_THROW(promise.set_exception(nullptr), std::invalid_argument);
  EXPECT_TRUE(promise.set("value"));
  EXPECT_EQ(promise.future().get(), "value");
}

TEST_F(Scopes, APromiseThatWasMovedSaysSo) {
  Promise<int> promise;
  auto future = promise.future();
  auto& same = promise;
  promise = std::move(same);
  EXPECT_FALSE(future.done());
  Promise<int> other = std::move(promise);
  EXPECT_THROW(promise.set(1), std::logic_error);
  EXPECT_THROW(promise.set_exception(std::make_exception_ptr(1)), std::logic_error);
  EXPECT_THROW(static_cast<void>(promise.future()), std::logic_error);
  EXPECT_TRUE(other.set(2));
  EXPECT_EQ(future.get(), 2);
}

TEST_F(Groups, MembersOfSeveralCarriersSpawn) {
  Runtime runtime({.carriers = 3});
  std::atomic<int> count{0};
  TaskGroup group;
  for (int carrier = 0; carrier < 3; ++carrier)
    static_cast<void>(group.spawn(
        [&] {
          for (int i = 0; i < 200; ++i) static_cast<void>(group.spawn([&] { ++count; }));
        },
        {.carrier = carrier}));
  group.join();
  EXPECT_EQ(count, 600);
}

}  // namespace
}  // namespace weft::test
