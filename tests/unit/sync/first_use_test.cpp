// What a program may do first: each starts the engine, and knows its fiber from then on.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weft/weft.hpp"

namespace weft::test {
namespace {

using namespace std::chrono_literals;

// In a process of its own, in which nothing has run before.
template <typename Body>
bool holds_first(Body&& body) {
  const pid_t child = fork();
  if (child == 0) _exit(!Runtime::running() && body() ? 0 : 1);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status == 0;
}

TEST(FirstUse, ATimeoutScope) {
  EXPECT_TRUE(holds_first([] {
    try {
      timeout(5ms, [] { sleep(1h); });
    } catch (const Timeout&) {
      return true;
    }
    return false;
  }));
}

TEST(FirstUse, AGroupWhoseFailureEndsItsOwnersWait) {
  EXPECT_TRUE(holds_first([] {
    TaskGroup group;
    Channel<int> never;
    group.spawn([] { throw std::runtime_error("x"); });
    try {
      never.receive();
    } catch (const Cancelled&) {
      try {
        group.join();
      } catch (const std::runtime_error&) {
        return true;
      }
    }
    return false;
  }));
}

TEST(FirstUse, ASpawn) {
  EXPECT_TRUE(holds_first([] { return spawn([] { return 3; }).result() == 3; }));
}

}  // namespace
}  // namespace weft::test
