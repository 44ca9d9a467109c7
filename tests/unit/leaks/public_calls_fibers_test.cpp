// Fibers, futures, groups, time limits, the runtime: no call of theirs leaks, whatever comes of it.
#include <stdexcept>
#include <thread>

#include "public_calls.hpp"
#include "weft/error.hpp"
#include "weft/fiber.hpp"
#include "weft/future.hpp"
#include "weft/offload.hpp"
#include "weft/patch.hpp"
#include "weft/runtime.hpp"
#include "weft/task_group.hpp"
#include "weft/timeout.hpp"

namespace weft::test {
namespace {

// Long enough for the heap.
const std::string kText(100, 'x');

TEST(FiberLeaks, ThatReturns) {
  EXPECT_NO_LEAK({
    const Fiber<std::string> fiber = spawn([] { return kText; }, {.name = "a name", .stack_size = 64 * 1024});
    EXPECT_TRUE(fiber.valid());
    int called = 0;
    fiber.on_done([&called] { ++called; });
    fiber.join();
    EXPECT_TRUE(fiber.join_for(1h));
    EXPECT_EQ(fiber.result(), kText);
    EXPECT_EQ(fiber.exception(), nullptr);
    EXPECT_TRUE(fiber.done());
    EXPECT_NE(fiber.id(), 0u);
    EXPECT_EQ(fiber.name(), "a name");
    fiber.on_done([&called] { ++called; });
    EXPECT_EQ(called, 2);
    fiber.cancel();
    EXPECT_FALSE(Fiber<>().valid());
    EXPECT_THROW(Fiber<>().join(), std::logic_error);
  });
}

TEST(FiberLeaks, ThatThrows) {
  EXPECT_NO_LEAK({
    const auto fiber = spawn([] { throw std::runtime_error(kText); });
    EXPECT_THROW(fiber.result(), std::runtime_error);
    EXPECT_NE(fiber.exception(), nullptr);
  });
}

TEST(FiberLeaks, ThatNobodyAsksFor) {
  const UnhandledHandler former = set_unhandled_handler([](const Unhandled&) noexcept {});
  EXPECT_NO_LEAK({
    spawn([] { return kText; });
    spawn([] { throw std::runtime_error(kText); });
    this_fiber::yield();
  });
  set_unhandled_handler(former);
}

TEST(FiberLeaks, ThatIsCancelled) {
  EXPECT_NO_LEAK({
    const auto waiting = spawn([text = kText] { sleep(1h); });
    EXPECT_FALSE(waiting.join_for(10us));
    waiting.cancel();
    EXPECT_TRUE(waiting.cancel_requested());
    EXPECT_THROW(waiting.result(), Cancelled);
    const auto unborn = spawn([text = kText] { return text; });
    unborn.cancel();
    EXPECT_THROW(unborn.result(), Cancelled);
    const auto joined = spawn([] { sleep(1h); });
    expect_ended([&] { joined.join(); });
    expect_ended([&] { joined.join_for(1h); });
    joined.cancel();
    joined.join();
  });
}

TEST(FiberLeaks, RefusedOptions) {
  EXPECT_NO_LEAK({
    EXPECT_THROW(spawn([text = kText] {}, {.stack_size = 1}), std::invalid_argument);
    EXPECT_THROW(spawn([text = kText] {}, {.carrier = 63}), std::system_error);
    EXPECT_THROW(spawn([text = kText] {}, {.carrier = -7}), std::system_error);
    const auto fiber = std::make_shared<Fiber<>>();
    *fiber = spawn([fiber] { EXPECT_EQ(error_of([&] { fiber->join(); }), EDEADLK); });
    fiber->join();
  });
}

TEST(FiberLeaks, TheCallingOne) {
  EXPECT_NO_LEAK({
    spawn(
        [] {
          this_fiber::yield();
          this_fiber::check();
          EXPECT_TRUE(this_fiber::exists());
          EXPECT_NE(this_fiber::id(), 0u);
          EXPECT_EQ(this_fiber::name(), "me");
          sleep(10us);
          sleep(0s);
          sleep_until(std::chrono::steady_clock::now() + 10us);
        },
        {.name = "me"})
        .result();
    expect_ended([] { sleep(1h); });
    expect_ended([] { sleep_until(std::chrono::system_clock::now() + 1h); });
    expect_expired([] {
      while (true) this_fiber::check();
    });
  });
}

TEST(FiberLeaks, AWaitingNativeThread) {
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    const auto fiber = spawn([] { sleep(10us); });
    std::thread native([&] { fiber.result(); });
    while (!fiber.done()) this_fiber::yield();
    native.join();
  });
}

TEST(FutureLeaks, SetOrNot) {
  EXPECT_NO_LEAK({
    const Promise<std::string> promise;
    const Future<std::string> future = promise.future();
    EXPECT_TRUE(future.valid());
    EXPECT_FALSE(future.done());
    int called = 0;
    future.on_done([&called, text = kText] { ++called; });
    EXPECT_FALSE(future.wait_for(10us));
    expect_ended([&] { future.wait(); });
    expect_ended([&] { future.get(); });
    promise.set(kText);
    future.wait();
    EXPECT_EQ(future.get(), kText);
    EXPECT_EQ(called, 1);
    Promise<std::string>().future().on_done([text = kText] {});
    const Future<std::string> broken = Promise<std::string>().future();
    EXPECT_THROW(broken.get(), BrokenPromise);
    EXPECT_THROW(Future<void>().wait(), std::logic_error);
  });
}

TEST(PromiseLeaks, SetOnce) {
  EXPECT_NO_LEAK({
    Promise<std::string> promise;
    EXPECT_TRUE(promise.set(kText));
    EXPECT_FALSE(promise.set(kText));
    EXPECT_FALSE(promise.set_exception(std::make_exception_ptr(std::runtime_error(kText))));
    EXPECT_THROW(promise.set_exception(nullptr), std::invalid_argument);
    const Promise<void> failing;
    const Future<void> failed = failing.future();
    EXPECT_TRUE(failing.set_exception(std::make_exception_ptr(std::runtime_error(kText))));
    EXPECT_THROW(failed.get(), std::runtime_error);
    Promise<std::string> moved(std::move(promise));
    EXPECT_THROW(promise.future(), std::logic_error);
    const Future<std::string> broken = (promise = Promise<std::string>()).future();
    promise = std::move(moved);
    EXPECT_THROW(broken.get(), BrokenPromise);
  });
}

TEST(TaskGroupLeaks, ThatSucceeds) {
  EXPECT_NO_LEAK({
    TaskGroup group;
    const auto left = group.spawn([] { return kText; });
    const auto right = group.spawn([] { sleep(10us); }, {.name = "right"});
    group.join();
    EXPECT_EQ(left.result(), kText);
    EXPECT_FALSE(group.cancelled());
    EXPECT_TRUE(group.errors().empty());
    TaskGroup::run([](TaskGroup& inner) { inner.spawn([] {}); });
  });
}

TEST(TaskGroupLeaks, ThatFails) {
  EXPECT_NO_LEAK({
    TaskGroup group;
    group.spawn([text = kText] { sleep(1h); });
    group.spawn([] { throw std::runtime_error(kText); });
    EXPECT_THROW(group.join(), std::runtime_error);
    EXPECT_TRUE(group.cancelled());
    EXPECT_EQ(group.errors().size(), 1u);
    const auto body = [](TaskGroup& inner) {
      inner.spawn([] { throw std::runtime_error(kText); });
      sleep(1h);
    };
    EXPECT_THROW(TaskGroup::run(body), std::runtime_error);
    EXPECT_THROW(TaskGroup::run([](TaskGroup& inner) {
                   inner.spawn([] { sleep(1h); });
                   throw std::logic_error(kText);
                 }),
                 std::logic_error);
    EXPECT_THROW(group.spawn([] {}, {.stack_size = 1}), std::invalid_argument);
  });
}

TEST(TaskGroupLeaks, ThatIsCancelledOrLeft) {
  EXPECT_NO_LEAK({
    {
      TaskGroup left;
      left.spawn([text = kText] { sleep(1h); });
    }
    TaskGroup group;
    group.spawn([] { sleep(1h); });
    group.cancel();
    group.spawn([] { sleep(1h); });
    group.join();
    const auto join = [] {
      TaskGroup inner;
      inner.spawn([] { sleep(1h); });
      inner.join();
    };
    expect_ended(join);
    expect_ended([] {
      TaskGroup::run([](TaskGroup& inner) {
        inner.spawn([] { sleep(1h); });
        sleep(1h);
      });
    });
  });
}

TEST(TimeoutScopeLeaks, ThatExpiresOrNot) {
  EXPECT_NO_LEAK({
    TimeoutScope outer(1h);
    {
      const TimeoutScope scope(10us);
      EXPECT_THROW(sleep(1h), Timeout);
      EXPECT_TRUE(scope.expired());
    }
    TimeoutScope until(std::chrono::steady_clock::now() + 1h);
    sleep(0s);
    EXPECT_FALSE(until.expired());
    EXPECT_EQ(timeout(1h, [] { return kText; }), kText);
    EXPECT_THROW(timeout(1h, [] { throw std::runtime_error(kText); }), std::runtime_error);
    std::string what;
    try {
      timeout(0s, [] { sleep(1h); });
    } catch (const Timeout& timeout) {
      what = timeout.what();
    }
    EXPECT_NE(what, "");
  });
}

TEST(ShieldLeaks, WhatItKeepsOff) {
  EXPECT_NO_LEAK({
    const auto fiber = spawn([] {
      const Shield shielded;
      sleep(10us);
      EXPECT_EQ(shield([] { return kText; }), kText);
      EXPECT_THROW(shield([] { timeout(10us, [] { sleep(1h); }); }), Timeout);
    });
    this_fiber::yield();
    fiber.cancel();
    fiber.join();
    EXPECT_THROW(shield([] { throw std::runtime_error(kText); }), std::runtime_error);
  });
}

TEST(ErrorLeaks, CopiesOfThem) {
  EXPECT_NO_LEAK({
    const Timeout timeout(kText.c_str());
    const Closed closed(kText.c_str());
    const auto copies = std::make_pair(timeout, closed);
    EXPECT_NE(std::string(copies.first.what()), copies.second.what());
    EXPECT_NE(std::string(Cancelled().what()), "");
    EXPECT_NE(std::string(BrokenPromise().what()), "");
    EXPECT_THROW(std::rethrow_exception(std::make_exception_ptr(timeout)), Timeout);
  });
}
TEST(TimeoutLeaks, WhatItSays) {
  EXPECT_NO_LEAK({ EXPECT_EQ(std::string(Timeout("mine").what()), "mine: the time limit has passed"); });
}
TEST(CancelledLeaks, WhatItSays) {
  EXPECT_NO_LEAK({ EXPECT_STREQ(Cancelled().what(), "the fiber was cancelled"); });
}

TEST(OffloadLeaks, ReturnsAndThrows) {
  EXPECT_NO_LEAK({
    EXPECT_EQ(offload([] { return kText; }), kText);
    EXPECT_THROW(offload([] { throw std::runtime_error(kText); }), std::runtime_error);
    offload([] {});
  });
}

TEST(RuntimeLeaks, StartedAgain) {
  EXPECT_TRUE(Runtime::running());
  EXPECT_NO_LEAK({
    EXPECT_THROW(Runtime({.carriers = 0}), std::invalid_argument);
    EXPECT_THROW(Runtime({.stack_size = 1}), std::invalid_argument);
    EXPECT_EQ(error_of([] { Runtime wrong({.stack_size = 1 << 22}); }), EALREADY);
    const Runtime runtime;
    EXPECT_EQ(error_of([] { Runtime another; }), EBUSY);
    EXPECT_GE(Runtime::report().carriers, 1);
  });
}

TEST(RuntimeLeaks, WithCarriers) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    const Runtime runtime({.carriers = 3});
    TaskGroup group;
    for (int i = 0; i < 30; ++i) group.spawn([] { sleep(10us); }, {.carrier = i % 3});
    group.join();
  });
}

TEST(PatchLeaks, MadeAndTakenBack) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    Patch patch({.only = {Family::kSockets, Family::kPolling},
                 .exclude = {Family::kPolling},
                 .exclude_libraries = {"libnothing*"}});
    {
      const Patch inner({.threads = PatchOptions::Threads::kAll});
      std::thread([] {}).join();
    }
    patch.unpatch(1h);
    patch.unpatch(1h);
  });
}

}  // namespace
}  // namespace weft::test
