// The library as a program uses it: no header of the engine but to count what is left behind.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "fiber/carrier.hpp"
#include "weft/weft.hpp"

namespace weft::test {

using namespace std::chrono_literals;

class Library : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (Runtime::running()) return;
    RuntimeOptions options;
    if (const char* backend = std::getenv("WEFT_BACKEND")) {
      if (std::string_view(backend) == "epoll") options.backend = RuntimeOptions::Backend::kEpoll;
      if (std::string_view(backend) == "io_uring") options.backend = RuntimeOptions::Backend::kIoUring;
    }
    Runtime start(options);
  }

  void TearDown() override {
    until([] { return Runtime::report().fibers_alive == 0; });
    EXPECT_EQ(engine::Carrier::current()->pending_timers(), 0u) << "a timer was left behind";
    EXPECT_EQ(engine::Carrier::current()->ready_count(), 0u);
  }

  /// Lets others run until `condition` holds; gives up, and fails, after a long time.
  template <typename Condition>
  static void until(Condition&& condition) {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > limit) {
        ADD_FAILURE() << "what was waited for did not come";
        return;
      }
      this_fiber::yield();
    }
  }

  /// Returns when `fiber` is parked.
  template <typename R>
  static void until_parked(const Fiber<R>& fiber) {
    until([&] { return block(fiber).state() == engine::Fiber::State::kParked; });
  }

 private:
  template <typename R>
  static engine::Fiber& block(const Fiber<R>& fiber) {
    engine::Fiber* found = nullptr;
    engine::Fiber::for_each([&](engine::Fiber& block) {
      if (block.id() == fiber.id()) found = &block;
    });
    return *found;
  }
};

}  // namespace weft::test
