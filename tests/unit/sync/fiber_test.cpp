// Fibers: spawning, results, handles, names, unhandled failures.
#include <memory>
#include <string>
#include <vector>

#include "library.hpp"

namespace weft::test {
namespace {

class Fibers : public Library {};

TEST_F(Fibers, ResultIsWhatTheFunctionReturned) {
  EXPECT_EQ(spawn([] { return 6 * 7; }).result(), 42);
  auto fiber = spawn([] { return std::make_unique<int>(3); });
  EXPECT_EQ(*fiber.result(), 3);
  EXPECT_EQ(*fiber.result(), 3);
  int x = 1;
  auto reference = spawn([&]() -> int& { return x; });
  EXPECT_EQ(&reference.result(), &x);
  spawn([] {}).result();
}

TEST_F(Fibers, RunsOnlyWhenTheSpawnerWaits) {
  bool ran = false;
  auto fiber = spawn([&] { ran = true; });
  EXPECT_FALSE(ran);
  EXPECT_FALSE(fiber.done());
  fiber.join();
  EXPECT_TRUE(ran);
  EXPECT_TRUE(fiber.done());
  fiber.join();
}

TEST_F(Fibers, ResultThrowsWhatTheFunctionThrew) {
  auto fiber = spawn([]() -> int { throw std::runtime_error("boom"); });
  EXPECT_THROW(fiber.result(), std::runtime_error);
  EXPECT_THROW(fiber.result(), std::runtime_error);
  EXPECT_NE(fiber.exception(), nullptr);
  EXPECT_EQ(spawn([] {}).exception(), nullptr);
}

TEST_F(Fibers, CancelledOneThrowsCancelled) {
  auto fiber = spawn([] { sleep(1h); });
  until_parked(fiber);
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
  EXPECT_TRUE(fiber.cancel_requested());
  fiber.cancel();  // of one that has ended: nothing
}

TEST_F(Fibers, CancelledBeforeItBeganItDoesNotRun) {
  bool ran = false;
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> seen = held;
  auto fiber = spawn([&ran, held = std::move(held)] { ran = true; });
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
  EXPECT_FALSE(ran);
  EXPECT_TRUE(seen.expired());
}

TEST_F(Fibers, SelfJoinIsAnError) {
  Fiber<> self;
  self = spawn([&] {
    try {
      self.join();
      ADD_FAILURE();
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::resource_deadlock_would_occur);
    }
  });
  Fiber<> copy = self;
  copy.join();
}

TEST_F(Fibers, EmptyHandleSaysSo) {
  Fiber<int> none;
  EXPECT_FALSE(none.valid());
  EXPECT_THROW(none.join(), std::logic_error);
  EXPECT_THROW(none.cancel(), std::logic_error);
}

TEST_F(Fibers, JoinForGivesUp) {
  Event go;
  auto fiber = spawn([&] { go.wait(); });
  EXPECT_FALSE(fiber.join_for(1ms));
  EXPECT_FALSE(fiber.join_for(-1s));
  go.set();
  EXPECT_TRUE(fiber.join_for(10s));
}

TEST_F(Fibers, ANativeThreadSpawnsAndJoins) {
  std::thread native([] {
    EXPECT_FALSE(this_fiber::exists());
    EXPECT_EQ(spawn([] { return 5; }).result(), 5);
  });
  auto joiner = spawn([&] { offload([&] { native.join(); }); });
  joiner.join();
}

TEST_F(Fibers, NamesAndNumbers) {
  std::string seen;
  uint64_t id = 0;
  auto fiber = spawn(
      [&] {
        seen = this_fiber::name();
        id = this_fiber::id();
      },
      {.name = "a name longer than fifteen bytes"});
  fiber.join();
  EXPECT_EQ(seen, "a name longer than fifteen bytes");
  EXPECT_EQ(fiber.name(), seen);
  EXPECT_EQ(fiber.id(), id);
  EXPECT_NE(id, 0u);
  EXPECT_EQ(this_fiber::id(), 0u);
  EXPECT_EQ(this_fiber::name(), "");
}

TEST_F(Fibers, CallbacksComeOnceAlsoWhenLate) {
  int calls = 0;
  auto fiber = spawn([] {});
  fiber.on_done([&] { calls += 1; });
  fiber.on_done([&] { calls += 10; });
  fiber.join();
  EXPECT_EQ(calls, 11);
  fiber.on_done([&] { calls += 100; });
  EXPECT_EQ(calls, 111);
}

TEST_F(Fibers, NoSuchCarrierIsAnError) {
  for (const int carrier : {7, -2, -100}) {
    try {
      spawn([] {}, {.carrier = carrier}).join();
      ADD_FAILURE() << carrier;
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::invalid_argument);
    }
  }
}

TEST_F(Fibers, AStackThatIsTooSmallIsAnError) {
  for (const size_t size : {1, 4096, 16 * 1024 - 1})
    EXPECT_THROW(static_cast<void>(spawn([] {}, {.stack_size = size})), std::invalid_argument) << size;
  EXPECT_EQ(spawn([] { return 1; }, {.stack_size = 16 * 1024}).result(), 1);
}

TEST_F(Fibers, WhatAFunctionHoldsGoesWithItsEnd) {
  auto held = std::make_shared<int>(1);
  auto fiber = spawn([held] {});
  EXPECT_EQ(held.use_count(), 2);
  fiber.join();
  EXPECT_EQ(held.use_count(), 1);
}

std::vector<std::string> g_reports;

class Unhandled_ : public Library {
 protected:
  void SetUp() override {
    g_reports.clear();
    former_ = set_unhandled_handler([](const Unhandled& failure) noexcept {
      g_reports.push_back(std::string(failure.name) + ": " + std::string(failure.what));
      EXPECT_NE(failure.file.find("fiber_test.cpp"), std::string_view::npos);
      EXPECT_GT(failure.line, 0u);
    });
  }
  void TearDown() override {
    set_unhandled_handler(former_);
    Library::TearDown();
  }
  UnhandledHandler former_;
};

TEST_F(Unhandled_, IsReportedOnceWhenNobodyCanAskAnyMore) {
  {
    auto fiber = spawn([] { throw std::runtime_error("lost"); }, {.name = "worker"});
    Fiber<> copy = fiber;
    fiber.join();
    EXPECT_TRUE(g_reports.empty());
  }
  EXPECT_EQ(g_reports, std::vector<std::string>{"worker: lost"});
}

TEST_F(Unhandled_, OfADetachedOneToo) {
  static_cast<void>(spawn([] { throw 7; }, {.name = "detached"}));
  until([] { return !g_reports.empty(); });
  EXPECT_EQ(g_reports, std::vector<std::string>{"detached: "});
}

TEST_F(Unhandled_, NotOfOneThatWasAskedNorOfACancelledOne) {
  {
    auto fiber = spawn([] { throw std::runtime_error("seen"); });
    EXPECT_NE(fiber.exception(), nullptr);
    auto cancelled = spawn([] { sleep(1h); });
    cancelled.cancel();
    cancelled.join();
  }
  EXPECT_TRUE(g_reports.empty());
}

TEST_F(Fibers, UnhandledFailureIsWrittenToStandardError) {
  testing::internal::CaptureStderr();
  static_cast<void>(spawn([] { throw std::runtime_error("no disk"); }, {.name = "writer"}));
  sleep(1ms);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("weft: unhandled std::runtime_error in fiber 'writer'"), std::string::npos) << text;
  EXPECT_NE(text.find("fiber_test.cpp:"), std::string::npos) << text;
  EXPECT_NE(text.find(": no disk\n"), std::string::npos) << text;
}

TEST_F(Fibers, TwoCarriersRunFibersAtTheSameTime) {
  Runtime runtime({.carriers = 2});
  std::atomic<int> there{0};
  const auto meet = [&] {
    ++there;
    while (there < 2) std::this_thread::yield();
  };
  auto one = spawn(meet), two = spawn(meet);
  one.join();
  two.join();
  EXPECT_EQ(Runtime::report().carriers, 2);
  int where = -1;
  spawn([&] { where = 1; }, {.carrier = 1}).join();
  EXPECT_EQ(where, 1);
  EXPECT_THROW(Runtime({.carriers = 1}), std::system_error);
}

TEST_F(Fibers, OptionsOutOfRange) {
  EXPECT_THROW(Runtime({.carriers = 0}), std::invalid_argument);
  EXPECT_THROW(Runtime({.carriers = 65}), std::invalid_argument);
  EXPECT_THROW(Runtime({.stack_size = 100}), std::invalid_argument);
  const auto error_of = [](const RuntimeOptions& options) {
    try {
      Runtime runtime(options);
    } catch (const std::system_error& error) {
      return error.code().value();
    }
    return 0;
  };
  EXPECT_EQ(error_of({.stack_size = 64 * 1024}), EALREADY);
  Runtime runtime;
  EXPECT_EQ(error_of({.stack_size = 64 * 1024}), EBUSY);
}

TEST_F(Fibers, OffloadRunsElsewhereAndThrows) {
  std::thread::id here = std::this_thread::get_id(), there;
  int others = 0;
  auto other = spawn([&] { others = 1; });
  EXPECT_EQ(offload([&] {
              there = std::this_thread::get_id();
              return 5;
            }),
            5);
  EXPECT_NE(here, there);
  EXPECT_EQ(others, 1);
  EXPECT_THROW(offload([]() -> int { throw std::out_of_range("x"); }), std::out_of_range);
  other.join();
}

}  // namespace
}  // namespace weft::test
