// Fibers that wait for descriptors, and others that run, close or lock meanwhile.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/timerfd.h>

#include "fiber/private_fd.hpp"
#include "interpose/calls.hpp"
#include "support/poll_loop.hpp"

namespace weft::engine::interpose {
namespace {

using namespace weft::engine::test;

class DescriptorsTest : public OnEveryBackend {
 protected:
  void SetUp() override { resolve_calls(); }

  struct Outcome {
    ssize_t result = 0;
    int error = 0;
    bool over = false;
  };
  /// A fiber that makes `call` and notes what comes of it.
  template <typename Call>
  Fiber& waiter(Outcome& outcome, Call call) {
    return loop.spawn([&outcome, call] {
      errno = 0;
      outcome.result = call();
      outcome.error = errno;
      outcome.over = true;
    });
  }
  /// Runs `call` in a fiber that has to park in it while others run, until `end` is called.
  template <typename Call, typename End>
  Outcome parked(Call call, End end) {
    Outcome outcome;
    Fiber& fiber = waiter(outcome, call);
    loop.settle();
    EXPECT_EQ(fiber.state(), Fiber::State::kParked);
    int rounds = 0;
    loop.run([&] {
      for (; rounds < 100; ++rounds) routed::sched_yield();
    });
    EXPECT_EQ(rounds, 100);
    EXPECT_FALSE(outcome.over);
    end();
    loop.join(fiber);
    return outcome;
  }

  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(DescriptorsTest);

char g_byte;

TEST_P(DescriptorsTest, ReadsParkUntilThereIsSomething) {
  FdPair pipe = pipe_pair();
  EXPECT_EQ(
      parked([&] { return routed::read(pipe.first, &g_byte, 1); }, [&] { ::write(pipe.second, "x", 1); })
          .result,
      1);

  const int event = eventfd(0, 0);
  EXPECT_EQ(parked(
                [&] {
                  eventfd_t value;
                  return routed::eventfd_read(event, &value) == 0 ? ssize_t(value) : -1;
                },
                [&] { ::eventfd_write(event, 3); })
                .result,
            3);
  ASSERT_EQ(::eventfd_write(event, ~uint64_t{0} - 1), 0);
  EXPECT_EQ(parked([&] { return routed::eventfd_write(event, 5); },
                   [&] {
                     eventfd_t value;
                     ::eventfd_read(event, &value);
                   })
                .result,
            0);
  EXPECT_EQ(routed::close(event), 0);

  const int timer = timerfd_create(CLOCK_MONOTONIC, 0);
  uint64_t ticks = 0;
  EXPECT_EQ(parked([&] { return routed::read(timer, &ticks, sizeof ticks); },
                   [&] {
                     const itimerspec soon{{}, {0, 1}};
                     timerfd_settime(timer, 0, &soon, nullptr);
                   })
                .result,
            8);
  EXPECT_EQ(ticks, 1u);
  EXPECT_EQ(routed::close(timer), 0);

  const int watch = inotify_init();
  char directory[] = "/tmp/weft-test-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  ASSERT_GE(inotify_add_watch(watch, directory, IN_CREATE), 0);
  const std::string file = std::string(directory) + "/file";
  alignas(inotify_event) char events[512];
  EXPECT_GT(parked([&] { return routed::read(watch, events, sizeof events); },
                   [&] { ::close(::open(file.c_str(), O_CREAT | O_WRONLY, 0600)); })
                .result,
            0);
  EXPECT_STREQ(reinterpret_cast<inotify_event*>(events)->name, "file");
  EXPECT_EQ(routed::close(watch), 0);
  std::filesystem::remove_all(directory);
}

TEST_P(DescriptorsTest, WritesParkUntilThereIsRoom) {
  FdPair pipe = pipe_pair();
  const int room = fcntl(pipe.second, F_SETPIPE_SZ, 4096);
  std::string much(static_cast<size_t>(room) + 1, 'x');
  const Outcome outcome = parked([&] { return routed::write(pipe.second, much.data(), much.size()); },
                                 [&] {
                                   EXPECT_EQ(::read(pipe.first, much.data(), 1), 1);
                                   ::read(pipe.first, much.data(), 4096);
                                 });
  EXPECT_EQ(outcome.result, room + 1);
}

TEST_P(DescriptorsTest, ClosingWakesThoseWhoWaitAndEndsTheStream) {
  FdPair pipe = pipe_pair();
  std::string full(65536, 'x');
  ASSERT_EQ(::write(pipe.second, full.data(), full.size()), 65536);
  const Outcome writer = parked([&] { return routed::write(pipe.second, "y", 1); },
                                [&] { EXPECT_EQ(routed::close(std::exchange(pipe.second, -1)), 0); });
  EXPECT_EQ(writer.result, -1);
  EXPECT_EQ(writer.error, EBADF);
  ASSERT_EQ(::read(pipe.first, full.data(), full.size()), 65536);
  EXPECT_EQ(::read(pipe.first, full.data(), 1), 0);

  FdPair sockets = socket_pair();
  const Outcome reader = parked([&] { return routed::read(sockets.first, &g_byte, 1); },
                                [&] { EXPECT_EQ(routed::close(std::exchange(sockets.first, -1)), 0); });
  EXPECT_EQ(reader.error, EBADF);
  EXPECT_EQ(::read(sockets.second, &g_byte, 1), 0);
}

TEST_P(DescriptorsTest, EveryWayOfClosingWakes) {
  const auto closed_by = [&](const char* how, auto close) {
    FdPair pipe = pipe_pair();
    const int fd = pipe.first;
    const Outcome outcome = parked([&] { return routed::read(fd, &g_byte, 1); }, [&] { close(fd); });
    EXPECT_EQ(outcome.result, -1) << how;
    EXPECT_EQ(outcome.error, EBADF) << how;
    EXPECT_EQ(::write(pipe.second, "x", 1), -1) << how;
    EXPECT_EQ(errno, EPIPE) << how;
    // The number may stand for another file now.
    if (fcntl(fd, F_GETFD) < 0) pipe.first = -1;
  };
  signal(SIGPIPE, SIG_IGN);
  FdPair other = pipe_pair();
  closed_by("close", [](int fd) { EXPECT_EQ(routed::close(fd), 0); });
  closed_by("dup2", [&](int fd) { EXPECT_EQ(routed::dup2(other.first, fd), fd); });
  closed_by("dup3", [&](int fd) { EXPECT_EQ(routed::dup3(other.first, fd, O_CLOEXEC), fd); });
  closed_by("close_range", [](int fd) { EXPECT_EQ(routed::close_range(unsigned(fd), unsigned(fd), 0), 0); });
  closed_by("fclose", [](int fd) { EXPECT_EQ(routed::fclose(fdopen(fd, "r")), 0); });
  closed_by("freopen", [](int fd) {
    FILE* file = routed::freopen("/dev/null", "r", fdopen(fd, "r"));
    EXPECT_EQ(routed::fclose(file), 0);
  });
}

TEST_P(DescriptorsTest, TheEnginesOwnAreNotOpenToTheProgram) {
  const int before = fcntl(1, F_DUPFD_CLOEXEC, 960), own = make_private_fd(eventfd(0, EFD_CLOEXEC));
  ASSERT_EQ(own, before + 1);
  EXPECT_EQ(routed::close(own), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(routed::dup2(1, own), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(routed::dup3(1, own, 0), -1);
  EXPECT_EQ(errno, EBADF);
  const int after = dup2(1, own + 1);
  EXPECT_EQ(routed::close_range(unsigned(own) - 1, unsigned(own) + 1, 0), 0);
  EXPECT_GE(fcntl(own, F_GETFD), 0);
  EXPECT_EQ(fcntl(before, F_GETFD), -1);
  EXPECT_EQ(fcntl(after, F_GETFD), -1);
  ASSERT_EQ(dup2(1, own + 1), own + 1);
  EXPECT_EQ(routed::close_range(unsigned(own), unsigned(own), 0), 0);
  routed::closefrom(own);
  EXPECT_GE(fcntl(own, F_GETFD), 0);
  EXPECT_EQ(fcntl(own + 1, F_GETFD), -1);
  close_private_fd(own);
}

TEST_P(DescriptorsTest, AClosedNumberForgetsItsPredecessor) {
  for (int round = 0; round < 50; ++round) {
    FdPair first = pipe_pair();
    const int fd = first.first;
    const Outcome outcome = parked([&] { return routed::read(fd, &g_byte, 1); }, [&] { routed::close(fd); });
    EXPECT_EQ(outcome.error, EBADF);
    first.first = -1;
    FdPair second = pipe_pair();
    EXPECT_EQ(second.first, fd);
    ::write(first.second, "x", 1);
    EXPECT_EQ(
        parked([&] { return routed::read(fd, &g_byte, 1); }, [&] { ::write(second.second, "y", 1); }).result,
        1);
    EXPECT_EQ(g_byte, 'y');
  }
}

TEST_P(DescriptorsTest, LocksOnFilesAreWaitedFor) {
  const std::string path = "/tmp/weft-test-lock-" + std::to_string(getpid());
  FdPair files;
  files.first = ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
  files.second = ::open(path.c_str(), O_RDWR);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  struct flock unlock {};
  unlock.l_type = F_UNLCK;
  ASSERT_EQ(::flock(files.first, LOCK_EX), 0);
  EXPECT_EQ(
      parked([&] { return routed::flock(files.second, LOCK_EX); }, [&] { ::flock(files.first, LOCK_UN); })
          .result,
      0);
  EXPECT_EQ(::flock(files.first, LOCK_EX | LOCK_NB), -1);
  ASSERT_EQ(::fcntl(files.first, F_OFD_SETLK, &lock), 0);
  EXPECT_EQ(parked([&] { return routed::fcntl(files.second, F_OFD_SETLKW, &lock); },
                   [&] { ::fcntl(files.first, F_OFD_SETLK, &unlock); })
                .result,
            0);
  EXPECT_EQ(parked([&] { return routed::lockf(files.first, F_LOCK, 1); },
                   [&] { ::fcntl(files.second, F_OFD_SETLK, &unlock); })
                .result,
            0);
  ::unlink(path.c_str());
}

TEST_P(DescriptorsTest, TheMainFiberCanBeInterruptedInALock) {
  const std::string path = "/tmp/weft-test-lock-" + std::to_string(getpid());
  FdPair files;
  files.first = ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
  files.second = ::open(path.c_str(), O_RDWR);
  ASSERT_EQ(::flock(files.first, LOCK_EX), 0);
  Fiber& main = loop.carrier.main_fiber();
  Fiber& signal = loop.spawn([&] {
    while (!main.interrupt(false)) routed::sched_yield();
  });
  EXPECT_EQ(routed::flock(files.second, LOCK_EX), -1);
  EXPECT_EQ(errno, EINTR);
  loop.join(signal);
  Fiber& holder = loop.spawn([&] { ::flock(files.first, LOCK_UN); });
  EXPECT_EQ(routed::flock(files.second, LOCK_EX), 0);
  loop.join(holder);
  ::unlink(path.c_str());
}

TEST_P(DescriptorsTest, MessageQueuesAreWaitedFor) {
  const std::string name = "/weft-test-" + std::to_string(getpid());
  mq_attr attributes{};
  attributes.mq_maxmsg = 1;
  attributes.mq_msgsize = 8;
  const mqd_t queue = mq_open(name.c_str(), O_RDWR | O_CREAT, 0600, &attributes);
  ASSERT_GE(queue, 0) << strerror(errno);
  mq_unlink(name.c_str());
  char message[8];
  unsigned priority = 0;
  EXPECT_EQ(parked([&] { return routed::mq_receive(queue, message, 8, &priority); },
                   [&] { mq_send(queue, "ab", 2, 7); })
                .result,
            2);
  EXPECT_EQ(priority, 7u);
  ASSERT_EQ(mq_send(queue, "cd", 2, 0), 0);
  EXPECT_EQ(parked([&] { return routed::mq_send(queue, "ef", 2, 0); },
                   [&] { mq_receive(queue, message, 8, nullptr); })
                .result,
            0);
  timespec soon{};
  clock_gettime(CLOCK_REALTIME, &soon);
  loop.run([&] {
    EXPECT_EQ(routed::mq_timedsend(queue, "gh", 2, 0, &soon), -1);
    EXPECT_EQ(errno, ETIMEDOUT);
    EXPECT_EQ(routed::mq_timedreceive(queue, message, 8, nullptr, &soon), 2);
    EXPECT_EQ(routed::mq_timedreceive(queue, message, 8, nullptr, &soon), -1);
    EXPECT_EQ(errno, ETIMEDOUT);
    const timespec wrong{0, -1};
    EXPECT_EQ(routed::mq_timedreceive(queue, message, 8, nullptr, &wrong), -1);
    EXPECT_EQ(errno, EINVAL);
    mq_attr nonblocking{};
    nonblocking.mq_flags = O_NONBLOCK;
    mq_setattr(queue, &nonblocking, nullptr);
    EXPECT_EQ(routed::mq_receive(queue, message, 8, nullptr), -1);
    EXPECT_EQ(errno, EAGAIN);
  });
  EXPECT_EQ(routed::mq_close(queue), 0);
}

TEST_P(DescriptorsTest, SystemVQueuesAndSemaphoresAreWaitedFor) {
  const int queue = msgget(IPC_PRIVATE, 0600), set = semget(IPC_PRIVATE, 1, 0600);
  ASSERT_GE(queue, 0);
  ASSERT_GE(set, 0);
  struct Message {
    long type;
    char text[4];
  } message{5, "abc"}, received{};
  EXPECT_EQ(parked([&] { return routed::msgrcv(queue, &received, 4, 5, 0); },
                   [&] { msgsnd(queue, &message, 4, 0); })
                .result,
            4);
  EXPECT_STREQ(received.text, "abc");
  sembuf take{0, -1, 0}, put{0, 1, 0};
  EXPECT_EQ(parked([&] { return routed::semop(set, &take, 1); }, [&] { semop(set, &put, 1); }).result, 0);
  loop.run([&] {
    const timespec soon{0, 1000};
    EXPECT_EQ(routed::semtimedop(set, &take, 1, &soon), -1);
    EXPECT_EQ(errno, EAGAIN);
    sembuf mixed[2] = {{0, 0, 0}, {0, -1, IPC_NOWAIT}};
    EXPECT_EQ(routed::semop(set, mixed, 2), -1);
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_EQ(routed::msgrcv(queue, &received, 4, 5, IPC_NOWAIT), -1);
    EXPECT_EQ(errno, ENOMSG);
    EXPECT_EQ(routed::msgrcv(-1, &received, 4, 5, 0), -1);
    EXPECT_EQ(errno, EINVAL);
  });
  const Outcome removed = parked([&] { return routed::semop(set, &take, 1); },
                                 [&] {
                                   while (semctl(set, 0, GETNCNT) == 0) sched_yield();
                                   semctl(set, 0, IPC_RMID);
                                 });
  EXPECT_EQ(removed.error, EIDRM);
  msgctl(queue, IPC_RMID, nullptr);
}

TEST_P(DescriptorsTest, CancelledFibersLeaveTheirReads) {
  FdPair pipe = pipe_pair();
  Outcome outcome;
  Fiber& fiber = waiter(outcome, [&] { return routed::read(pipe.first, &g_byte, 1); });
  loop.settle();
  fiber.cancel();
  loop.join(fiber);
  EXPECT_EQ(outcome.result, -1);
  EXPECT_EQ(outcome.error, ECANCELED);
}

}  // namespace
}  // namespace weft::engine::interpose
