// Leak tests of the library's own public calls: what those have in common.
//
// Suites are named after the class whose functions they call, SemaphoreLeaks after Semaphore:
// tests/python/test_leak_tests_of_cpp.py compares them with what the public headers declare.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "weft/heap/gtest.hpp"
#include "weft/weft.hpp"

namespace weft::test {

using namespace std::chrono_literals;

/// The engine with the backend of WEFT_BACKEND, the test being its main fiber; and a folder for temporary
/// files that no other program makes files in.
class LeakTestEnvironment : public testing::Environment {
 public:
  void SetUp() override {
    char name[] = "/tmp/weft-leaks-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder() = name;
    setenv("TMPDIR", name, 1);
    RuntimeOptions options;
    const std::string_view backend = std::getenv("WEFT_BACKEND") ? std::getenv("WEFT_BACKEND") : "";
    if (backend == "epoll") options.backend = RuntimeOptions::Backend::kEpoll;
    if (backend == "io_uring") options.backend = RuntimeOptions::Backend::kIoUring;
    Runtime start(options);
  }
  void TearDown() override { std::filesystem::remove_all(folder()); }

  static std::string& folder() {
    static std::string path;
    return path;
  }
};
inline testing::Environment* const g_environment = testing::AddGlobalTestEnvironment(new LeakTestEnvironment);

/// For what takes milliseconds.
[[gnu::noinline]] inline heap::LeakOptions few_calls(uint64_t times = 20) {
  heap::LeakOptions options;
  options.times = times;
  options.warm_up = 5;
  options.limit = 1s;
  return options;
}

/// Cancels a fiber that is to wait in `body`, and sees it end by that.
template <typename F>
void expect_cancelled(F&& body) {
  auto fiber = spawn([&body] { body(); });
  this_fiber::yield();  // it runs until it waits
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
}

/// Lets the time limit around `body` pass.
template <typename F>
void expect_expired(F&& body) {
  EXPECT_THROW(timeout(10us, std::forward<F>(body)), Timeout);
}

/// Each of the ways in which a wait ends without what was waited for.
template <typename F>
void expect_ended(F&& body) {
  expect_cancelled(body);
  expect_expired(body);
}

/// The errno that `body` fails with; 0: it does not.
template <typename F>
int error_of(F&& body) {
  try {
    body();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

}  // namespace weft::test
