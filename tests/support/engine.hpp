// The engine as a patched program has it: a runtime on the test's thread, the routed calls at hand by name.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <string_view>
#include <thread>

#include "interpose/calls.hpp"
#include "interpose/interpose.hpp"
#include "interpose/threads.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::test {

/// Starts the runtime once for the whole test program, with the backend of WEFT_BACKEND; its thread is the
/// carrier. Nothing is patched: tests call routed::name() where a patched program would call name().
class EngineTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (Runtime::get()) return;
    static Settings settings;
    if (const char* backend = getenv("WEFT_BACKEND")) {
      if (std::string_view(backend) == "epoll") settings.backend = Backend::kEpoll;
      if (std::string_view(backend) == "io_uring") settings.backend = Backend::kIoUring;
    }
    interpose::resolve_calls();
    interpose::set_thread_settings(settings);
    Runtime* runtime = Runtime::start(settings);
    ASSERT_NE(runtime, nullptr);
    interpose::runtime_started(*runtime);
  }

  void TearDown() override { EXPECT_EQ(Fiber::counts().alive, 0u) << "a fiber was left behind"; }
};

/// A thread of the program under test: a fiber, joined at the end of its scope.
class FiberThread {
 public:
  explicit FiberThread(std::function<void()> body) : body_(std::move(body)) {
    const auto start = [](void* self) -> void* {
      static_cast<FiberThread*>(self)->body_();
      return nullptr;
    };
    EXPECT_EQ(interpose::routed::pthread_create(&handle_, nullptr, start, this), 0);
  }
  ~FiberThread() { join(); }
  FiberThread(const FiberThread&) = delete;
  FiberThread& operator=(const FiberThread&) = delete;

  void join() {
    if (joined_) return;
    joined_ = true;
    EXPECT_EQ(interpose::routed::pthread_join(handle_, nullptr), 0);
  }
  pthread_t handle() const { return handle_; }
  Fiber& fiber() const { return *interpose::fiber_of(handle_); }
  bool parked() const { return fiber().state() == Fiber::State::kParked; }

 private:
  std::function<void()> body_;
  pthread_t handle_{};
  bool joined_ = false;
};

/// Lets other fibers run until `condition` holds.
template <typename Condition>
void run_until(Condition&& condition) {
  while (!condition()) interpose::routed::sched_yield();
}

}  // namespace weft::engine::test
