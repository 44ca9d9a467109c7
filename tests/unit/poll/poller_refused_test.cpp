// Where the kernel, or a sandbox, refuses what a poller would like to have.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <vector>

#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

/// From now on the system call fails with `error`, in this process.
bool refuse(int call, int error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// Runs `body` in a child process, where it may refuse things; it returns 0 if all is well, else the line.
template <typename Body>
int in_child(Body&& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define REQUIRE(condition) \
  if (!(condition)) return __LINE__ & 0xff

int falls_back(int call, int error) {
  REQUIRE(refuse(call, error));
  const int before = open_descriptors();
  std::string why;
  REQUIRE(!Poller::create(Backend::kIoUring, &why));
  REQUIRE(errno == error);
  REQUIRE(why.find(strerrordesc_np(error)) != std::string::npos);
  REQUIRE(open_descriptors() == before);
  const auto poller = Poller::create(Backend::kAuto, &why);
  REQUIRE(poller && poller->backend() == Backend::kEpoll);
  REQUIRE(why.find("epoll") == 0 && why.find(strerrordesc_np(error)) != std::string::npos);
  return 0;
}

TEST(PollerRefusedTest, WithoutIoUringItIsEpoll) {
  EXPECT_EQ(in_child([] { return falls_back(SYS_io_uring_setup, EPERM); }), 0);
  EXPECT_EQ(in_child([] { return falls_back(SYS_io_uring_setup, ENOSYS); }), 0);
  EXPECT_EQ(in_child([] { return falls_back(SYS_io_uring_setup, ENOMEM); }), 0);
}

TEST(PollerRefusedTest, ARingThatMayNotBeUsedIsNone) {
  EXPECT_EQ(in_child([] { return falls_back(SYS_io_uring_enter, EPERM); }), 0);
  EXPECT_EQ(in_child([] { return falls_back(SYS_io_uring_register, EPERM); }), 0);
}

TEST(PollerRefusedTest, WithoutEpollPwait2TimeoutsAreRoundedUp) {
  EXPECT_EQ(in_child([] {
              REQUIRE(refuse(SYS_epoll_pwait2, ENOSYS));
              PollLoop loop(Backend::kEpoll);
              FdPair pair = socket_pair();
              const Nanos start = loop.clock.now();
              REQUIRE(loop.poller->wait(pair.first, POLLIN, start + 300 * kMicrosecond, 0, "test") ==
                      Wake::kTimeout);
              REQUIRE(loop.clock.now() >= start + 300 * kMicrosecond);
              return 0;
            }),
            0);
}

TEST(PollerRefusedTest, NothingAtAllIsAnError) {
  EXPECT_EQ(in_child([] {
              REQUIRE(refuse(SYS_io_uring_setup, EPERM));
              REQUIRE(refuse(SYS_epoll_create1, EPERM));
              REQUIRE(!Poller::create(Backend::kAuto));
              REQUIRE(errno == EPERM);
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace weft::engine
