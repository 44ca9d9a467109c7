// Every kind of descriptor, many of them, and the making of pollers.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <thread>
#include <vector>

#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

class PollerKindTest : public OnEveryBackend {
 protected:
  /// Waits in the calling fiber.
  Wake wait(FdWait& wait, Nanos deadline = kNever, uint8_t flags = kCancellable | kInterruptible) {
    return loop.poller->wait({&wait, 1}, deadline, flags, "test");
  }
  Nanos in(Nanos time) { return later(loop.clock.now(), time); }

  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(PollerKindTest);

TEST_P(PollerKindTest, ARegularFileIsReadyAtOnce) {
  const int file = ::memfd_create("weft", MFD_CLOEXEC);
  FILE* disk = ::tmpfile();
  for (const int fd : {file, ::fileno(disk)}) {
    FdWait both = wait_for(fd, POLLIN | POLLOUT);
    loop.run([&] { EXPECT_EQ(wait(both), Wake::kReady); });
    EXPECT_EQ(both.revents, POLLIN | POLLOUT);
    FdWait in = wait_for(fd, POLLIN);
    loop.run([&] { EXPECT_EQ(wait(in), Wake::kReady); });
    EXPECT_EQ(in.revents, POLLIN);
  }
  close_routed(file);
  Poller::closing(::fileno(disk));
  ::fclose(disk);
}

TEST_P(PollerKindTest, ADescriptorThatIsNotOpenIsInvalid) {
  FdPair pair = socket_pair();
  const int number = pair.first;
  close_routed(std::exchange(pair.first, -1));
  FdWait one = wait_for(number, POLLIN);
  loop.run([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  EXPECT_EQ(one.revents, POLLNVAL);
  loop.run([&] { EXPECT_EQ(wait(one, 0), Wake::kReady); });
  EXPECT_EQ(one.revents, POLLNVAL);
}

TEST_P(PollerKindTest, NegativeDescriptorsAreIgnored) {
  FdPair pair = socket_pair();
  std::array waits{wait_for(-1, POLLIN), wait_for(pair.first, POLLIN), wait_for(-7, POLLOUT)};
  put(pair.second);
  loop.run([&] { EXPECT_EQ(loop.poller->wait(waits, kNever, kCancellable, "poll"), Wake::kReady); });
  EXPECT_EQ(waits[0].revents, 0);
  EXPECT_EQ(waits[1].revents, POLLIN);
  EXPECT_EQ(waits[2].revents, 0);
}

TEST_P(PollerKindTest, AWaitForNothingIsASleep) {
  loop.run([&] {
    EXPECT_EQ(loop.poller->wait(std::span<FdWait>{}, in(kMillisecond), kCancellable, "poll"), Wake::kTimeout);
  });
}

TEST_P(PollerKindTest, Pipes) {
  FdPair pair = pipe_pair();
  FdWait in = wait_for(pair.first, POLLIN), out = wait_for(pair.second, POLLOUT);
  loop.run([&] { EXPECT_EQ(wait(out), Wake::kReady); });
  EXPECT_EQ(out.revents, POLLOUT);
  Fiber& reader = loop.spawn([&] { EXPECT_EQ(wait(in), Wake::kReady); });
  loop.settle();
  fill(pair.second);
  loop.join(reader);
  EXPECT_EQ(in.revents, POLLIN);
  Fiber& writer = loop.spawn([&] { EXPECT_EQ(wait(out), Wake::kReady); });
  loop.settle();
  EXPECT_FALSE(writer.done());
  drain(pair.first);
  loop.join(writer);
}

TEST_P(PollerKindTest, Terminals) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master), 0);
  ASSERT_EQ(::unlockpt(master), 0);
  const int terminal = ::open(::ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(terminal, 0);
  FdWait line = wait_for(terminal, POLLIN);
  Fiber& reader = loop.spawn([&] { EXPECT_EQ(wait(line), Wake::kReady); });
  loop.settle();
  put(master);
  loop.settle();
  EXPECT_FALSE(reader.done());  // half a line
  ASSERT_EQ(::write(master, "\n", 1), 1);
  loop.join(reader);
  EXPECT_EQ(line.revents, POLLIN);
  close_routed(terminal);
  FdWait hang_up = wait_for(master, POLLOUT | POLLIN);
  loop.run([&] { EXPECT_EQ(wait(hang_up), Wake::kReady); });
  EXPECT_EQ(hang_up.revents & POLLHUP, POLLHUP);
  close_routed(master);
}

TEST_P(PollerKindTest, AnEpollSetCanBeWaitedFor) {
  FdPair pair = socket_pair();
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {.fd = pair.first}};
  ASSERT_EQ(::epoll_ctl(set, EPOLL_CTL_ADD, pair.first, &event), 0);
  FdWait one = wait_for(set, POLLIN);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(one), Wake::kReady); });
  loop.settle();
  EXPECT_FALSE(fiber.done());
  put(pair.second);
  loop.join(fiber);
  EXPECT_EQ(one.revents, POLLIN);
  close_routed(set);
}

TEST_P(PollerKindTest, FiveHundredDescriptorsAtOnce) {
  constexpr int kCount = 500;
  std::vector<FdPair> pairs(kCount);
  std::vector<FdWait> waits(kCount);
  for (int i = 0; i < kCount; ++i) {
    pairs[i].first = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT_GE(pairs[i].first, 0);
    waits[i] = wait_for(pairs[i].first, POLLIN);
  }
  for (const int ready : {0, 499, 250}) {
    Wake wake{};
    Fiber& fiber = loop.spawn([&] { wake = loop.poller->wait(waits, kNever, kCancellable, "poll"); });
    loop.settle();
    EXPECT_FALSE(fiber.done());
    ASSERT_EQ(::eventfd_write(pairs[ready].first, 1), 0);
    loop.join(fiber);
    EXPECT_EQ(wake, Wake::kReady);
    for (int i = 0; i < kCount; ++i) ASSERT_EQ(waits[i].revents, i == ready ? POLLIN : 0) << i;
    eventfd_t value;
    ASSERT_EQ(::eventfd_read(pairs[ready].first, &value), 0);
  }
}

TEST_P(PollerKindTest, OneDescriptorTwiceInOneWait) {
  FdPair pair = socket_pair();
  std::array waits{wait_for(pair.first, POLLIN), wait_for(pair.first, POLLIN | POLLPRI)};
  Fiber& fiber =
      loop.spawn([&] { EXPECT_EQ(loop.poller->wait(waits, kNever, kCancellable, "poll"), Wake::kReady); });
  loop.settle();
  put(pair.second);
  loop.join(fiber);
  EXPECT_EQ(waits[0].revents | waits[1].revents, POLLIN);
}

TEST_P(PollerKindTest, TenThousandWaitsOnOneCarrier) {
  constexpr int kDescriptors = 100;
  std::vector<FdPair> pairs(kDescriptors);
  for (FdPair& pair : pairs) pair.first = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
#if defined(__SANITIZE_THREAD__)
  const int count = 2000;  // ThreadSanitizer allows about 8,000 fibers
#else
  const int count = 10000;
#endif
  int ready = 0, timed_out = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < count; ++i)
    fibers.push_back(&loop.spawn([&, i] {
      FdWait one = wait_for(pairs[i % kDescriptors].first, POLLIN);
      const Wake wake = wait(one, i % 3 == 0 ? in(kMillisecond) : kNever);
      ready += wake == Wake::kReady;
      timed_out += wake == Wake::kTimeout;
    }));
  while (timed_out < (count + 2) / 3) loop.carrier.sleep_until(in(kMillisecond), kUninterruptible, "test");
  for (FdPair& pair : pairs) ASSERT_EQ(::eventfd_write(pair.first, 1), 0);
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(ready + timed_out, count);
}

TEST_P(PollerKindTest, PriorityDataIsToldFromOther) {
  int fds[2];
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  fds[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::connect(fds[0], reinterpret_cast<sockaddr*>(&address), length), 0);
  fds[1] = ::accept(listener, nullptr, nullptr);
  FdWait urgent = wait_for(fds[1], POLLPRI);
  Fiber& fiber = loop.spawn([&] { EXPECT_EQ(wait(urgent), Wake::kReady); });
  loop.settle();
  put(fds[0]);
  loop.settle();
  EXPECT_FALSE(fiber.done());
  ASSERT_EQ(::send(fds[0], "!", 1, MSG_OOB), 1);
  loop.join(fiber);
  EXPECT_EQ(urgent.revents, POLLPRI);
  for (const int fd : {listener, fds[0], fds[1]}) close_routed(fd);
}

class PollerMakingTest : public OnEveryBackend {};
WEFT_ON_EVERY_BACKEND(PollerMakingTest);

TEST_P(PollerMakingTest, LeavesNoDescriptorBehind) {
  const int before = open_descriptors();
  for (int i = 0; i < 100; ++i) {
    PollLoop loop(GetParam());
    FdPair pair = socket_pair();
    loop.run([&] { loop.poller->wait(pair.first, POLLIN, 0, kCancellable, "test"); });
    loop.run([&] { loop.poller->wait(pair.first, POLLOUT, kNever, kCancellable, "test"); });
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_P(PollerMakingTest, LeavesNothingBehindWhenDescriptorsRunOut) {
  const int before = open_descriptors();
  rlimit old_limit;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  int failures = 0;
  bool made = false;
  for (rlim_t limit = 0; !made && limit < old_limit.rlim_cur; ++limit) {
    const rlimit tight{limit, old_limit.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    auto poller = Poller::create(GetParam());
    const int error = errno;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old_limit), 0);
    made = poller != nullptr;
    if (made) continue;
    ++failures;
    ASSERT_EQ(error, EMFILE);
    ASSERT_EQ(open_descriptors(), before);
  }
  EXPECT_TRUE(made);
  EXPECT_GT(failures, 1);
  EXPECT_EQ(open_descriptors(), before);
}

TEST_P(PollerMakingTest, AFileOpenedInTheMeantimeTakesALowNumber) {
  const int probe = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(probe);
  PollLoop loop(GetParam());
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(fd, probe);
  ::close(fd);
}

TEST_P(PollerMakingTest, CanBeMadeOnAThreadThatDoesNotUseIt) {
  std::unique_ptr<Poller> poller = Poller::create(GetParam());
  std::thread([&] {
    MonotonicClock clock;
    Carrier carrier(clock, *poller);
    ASSERT_TRUE(carrier.attach());
    FdPair pair = socket_pair();
    EXPECT_EQ(poller->wait(pair.first, POLLOUT, kNever, kCancellable, "test"), Wake::kReady);
    carrier.detach();
  }).join();
}

TEST(PollerChoiceTest, AutomaticChoiceSaysWhy) {
  std::string why;
  const auto poller = Poller::create(Backend::kAuto, &why);
  ASSERT_NE(poller, nullptr);
  EXPECT_NE(why.find(to_string(poller->backend())), std::string::npos) << why;
}

}  // namespace
}  // namespace weft::engine
