// patch() and unpatch(), as a program that is linked to libweft.so uses them: with its calls on libc routed.
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "weft/weft.hpp"

namespace weft {
namespace {

using namespace std::chrono_literals;

// True if `blocking` lets other fibers run.
bool is_cooperative(void (*blocking)(int ends[2])) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  bool other_ran = false, first = false;
  auto waiter = spawn([&] {
    blocking(ends);
    first = other_ran;
  });
  auto other = spawn([&] {
    other_ran = true;
    EXPECT_EQ(write(ends[1], "x", 1), 1);
  });
  waiter.join();
  other.join();
  close(ends[0]);
  close(ends[1]);
  return first;
}

void poll_pipe(int ends[2]) {
  pollfd descriptor{ends[0], POLLIN, 0};
  poll(&descriptor, 1, 20);
}
void read_pipe(int ends[2]) {
  pollfd descriptor{ends[0], POLLIN, 0};
  if (poll(&descriptor, 1, 20) != 1) return;  // where nothing is routed it would stand still
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
}
void sleep_a_little(int*) {
  usleep(5000);
}

TEST(PatchTest, BlockingCallsParkWhileItLives) {
  EXPECT_FALSE(is_cooperative(poll_pipe));
  {
    Patch patch;
    EXPECT_TRUE(detail::routed());
    EXPECT_TRUE(is_cooperative(poll_pipe));
    EXPECT_TRUE(is_cooperative(read_pipe));
    EXPECT_TRUE(is_cooperative(sleep_a_little));
  }
  EXPECT_FALSE(detail::routed());
  EXPECT_FALSE(is_cooperative(poll_pipe));
  EXPECT_FALSE(is_cooperative(sleep_a_little));
}

TEST(PatchTest, OnlySomeFamilies) {
  Patch patch({.only = {Family::kSleeping}});
  EXPECT_FALSE(is_cooperative(poll_pipe));
  EXPECT_TRUE(is_cooperative(sleep_a_little));
}

TEST(PatchTest, Nests) {
  Patch outer;
  {
    Patch inner({.exclude = {Family::kSleeping}});
    EXPECT_FALSE(is_cooperative(sleep_a_little));
    EXPECT_TRUE(is_cooperative(poll_pipe));
    {
      Patch innermost;
      EXPECT_TRUE(is_cooperative(sleep_a_little));
    }
    EXPECT_FALSE(is_cooperative(sleep_a_little));
  }
  EXPECT_TRUE(is_cooperative(sleep_a_little));
}

TEST(PatchTest, LeavesLibrariesAlone) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  const std::string self(path, length);
  Patch patch({.exclude_libraries = {self.substr(self.rfind('/') + 1)}});
  EXPECT_FALSE(is_cooperative(poll_pipe));
}

TEST(PatchTest, AWaitThatBeganUnderItEndsAfterIt) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  auto patch = std::make_unique<Patch>();
  char byte = 0;
  std::atomic<bool> waiting{false};
  auto reader = spawn([&] {
    waiting = true;
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
  });
  this_fiber::yield();
  EXPECT_TRUE(waiting);
  EXPECT_FALSE(reader.done());
  patch.reset();
  ASSERT_EQ(write(ends[1], "y", 1), 1);
  reader.result();
  EXPECT_EQ(byte, 'y');
  close(ends[0]);
  close(ends[1]);
}

TEST(PatchTest, ThreadsBecomeFibersWhereAskedFor) {
  Patch patch({.threads = PatchOptions::Threads::kAll});
  pthread_t self = pthread_self(), inside{};
  bool same_carrier = false;
  pid_t here = static_cast<pid_t>(syscall(186));
  std::thread thread([&] {
    inside = pthread_self();
    same_carrier = this_fiber::exists();
  });
  thread.join();
  EXPECT_TRUE(same_carrier);
  EXPECT_FALSE(pthread_equal(self, inside));
  EXPECT_EQ(static_cast<pid_t>(syscall(186)), here);
}

// A native thread that waits in a routed call goes on to wait in libc, where it is posted from now on.
TEST(PatchTest, NativeWaitersSurviveTheEnd) {
  sem_t semaphore, ready;
  sem_init(&semaphore, 0, 0);
  sem_init(&ready, 0, 0);
  auto patch = std::make_unique<Patch>();
  static_cast<void>(spawn([] {}).join());
  std::thread native([&] {
    sem_post(&ready);
    sem_wait(&semaphore);
  });
  sem_wait(&ready);
  sleep(5ms);
  patch.reset();
  sem_post(&semaphore);
  native.join();
  sem_destroy(&semaphore);
  sem_destroy(&ready);
}

TEST(PatchTest, TimeoutsAndCancellationReachBlockingCalls) {
  Patch patch;
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  auto fiber = spawn([&] {
    char byte;
    {
      TimeoutScope scope(2ms);
      errno = 0;
      EXPECT_EQ(read(ends[0], &byte, 1), -1);
      EXPECT_EQ(errno, ETIMEDOUT);
      EXPECT_THROW(this_fiber::check(), Timeout);
    }
    EXPECT_EQ(read(ends[0], &byte, 1), -1);
    EXPECT_EQ(errno, ECANCELED);
    this_fiber::check();
  });
  sleep(10ms);
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
  close(ends[0]);
  close(ends[1]);
}

// Last: a thread that was not joined leaves some calls routed.
TEST(PatchTest, UnpatchWaitsForSuchThreadsAndSaysSoIfTheyStay) {
  Patch patch({.threads = PatchOptions::Threads::kAll});
  sem_t go;
  sem_init(&go, 0, 0);
  std::thread thread([&] { sem_wait(&go); });
  this_fiber::yield();
  EXPECT_THROW(patch.unpatch(5ms), Timeout);
  EXPECT_TRUE(detail::routed());
  auto poster = spawn([&] {
    sleep(5ms);
    sem_post(&go);
  });
  patch.unpatch(10s);
  poster.join();
  EXPECT_FALSE(is_cooperative(poll_pipe));
  thread.join();  // by a fiber's number, which libc itself must not be asked about
  sem_destroy(&go);
}

}  // namespace
}  // namespace weft
