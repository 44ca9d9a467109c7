// Waiting for children.
#include "interpose/children.hpp"

#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <set>

#include "interpose/calls.hpp"
#include "support/poll_loop.hpp"

extern char** environ;

namespace weft::engine::interpose {
namespace {

using namespace weft::engine::test;

/// A process that waits for the end of its input, then exits with `code`.
class Child {
 public:
  explicit Child(int code = 0, pid_t group = -1) {
    FdPair pipe = pipe_pair();
    const std::string script = "read x; exit " + std::to_string(code);
    const char* arguments[] = {"sh", "-c", script.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe.first, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    if (group >= 0) {
      posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
      posix_spawnattr_setpgroup(&attributes, group);
    }
    EXPECT_EQ(posix_spawn(&pid, "/bin/sh", &actions, &attributes, const_cast<char**>(arguments), environ), 0);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    input_ = std::exchange(pipe.second, -1);
  }
  Child(Child&& other) noexcept : pid(other.pid), input_(std::exchange(other.input_, -1)) {}
  ~Child() { finish(); }
  void finish() {
    if (input_ >= 0) ::close(std::exchange(input_, -1));
  }

  pid_t pid = -1;

 private:
  int input_ = -1;
};

class ChildrenTest : public OnEveryBackend {
 protected:
  void SetUp() override { resolve_calls(); }
  void TearDown() override {
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child was left behind";
    ChildWatch::join_ended();
  }

  template <typename Call>
  Fiber& waiting(Call call) {
    Fiber& fiber = loop.spawn(call);
    loop.settle();
    EXPECT_EQ(fiber.state(), Fiber::State::kParked);
    return fiber;
  }

  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(ChildrenTest);

TEST_P(ChildrenTest, AHundredFibersWaitForAHundredChildren) {
  std::vector<Child> children;
  std::vector<Fiber*> fibers;
  std::vector<int> codes(100, -1);
  for (int i = 0; i < 100; ++i) children.emplace_back(i);
  const int descriptors = open_descriptors();
  for (size_t i = 0; i < 100; ++i)
    fibers.push_back(&loop.spawn([&, i] {
      int status = 0;
      rusage usage{};
      EXPECT_EQ(routed::wait4(children[i].pid, &status, 0, &usage), children[i].pid);
      codes[i] = WEXITSTATUS(status);
      EXPECT_GT(usage.ru_maxrss, 0);
    }));
  loop.settle();
  for (Fiber* fiber : fibers) EXPECT_EQ(fiber->state(), Fiber::State::kParked);
  for (auto child = children.rbegin(); child != children.rend(); ++child) child->finish();
  for (Fiber* fiber : fibers) loop.join(*fiber);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(codes[static_cast<size_t>(i)], i);
  EXPECT_EQ(open_descriptors(), descriptors - 100);
}

TEST_P(ChildrenTest, AnyChildWakesThoseWhoWaitForAny) {
  Child first(1), second(2);
  std::set<pid_t> reaped;
  const auto wait_for_one = [&] {
    int status = 0;
    reaped.insert(routed::__wait(&status));
  };
  Fiber& one = waiting(wait_for_one);
  Fiber& other = waiting(wait_for_one);
  second.finish();
  while (reaped.empty()) routed::sched_yield();
  EXPECT_EQ(*reaped.begin(), second.pid);
  first.finish();
  loop.join(one);
  loop.join(other);
  EXPECT_EQ(reaped, (std::set<pid_t>{first.pid, second.pid}));
}

TEST_P(ChildrenTest, GroupsAreToldApart) {
  Child leader(1, 0), member(2, leader.pid), stranger(3);
  int status = 0;
  pid_t seen = 0;
  Fiber& fiber = waiting([&] { seen = routed::waitpid(-leader.pid, &status, 0); });
  stranger.finish();
  // Its end is none of the fiber's business.
  for (siginfo_t info{}; info.si_pid == 0;)
    ASSERT_EQ(::waitid(P_PID, id_t(stranger.pid), &info, WEXITED | WNOWAIT | WNOHANG), 0);
  loop.settle();
  EXPECT_EQ(seen, 0);
  member.finish();
  loop.join(fiber);
  EXPECT_EQ(seen, member.pid);
  EXPECT_EQ(WEXITSTATUS(status), 2);
  leader.finish();
  loop.run([&] {
    EXPECT_EQ(routed::waitpid(-leader.pid, &status, 0), leader.pid);
    EXPECT_EQ(routed::waitpid(0, &status, 0), stranger.pid);
    EXPECT_EQ(routed::waitpid(0, &status, 0), -1);
    EXPECT_EQ(errno, ECHILD);
  });
}

TEST_P(ChildrenTest, ErrorsAreThoseOfLibc) {
  loop.run([&] {
    int status = 0;
    EXPECT_EQ(routed::waitpid(-1, &status, 0), -1);
    EXPECT_EQ(errno, ECHILD);
    EXPECT_EQ(routed::waitpid(getpid(), &status, 0), -1);
    EXPECT_EQ(errno, ECHILD);
    EXPECT_EQ(routed::waitpid(-1, &status, 0x10000), -1);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(routed::wait4(INT32_MIN, &status, 0, nullptr), -1);
    EXPECT_EQ(errno, ESRCH);
    siginfo_t info{};
    EXPECT_EQ(routed::waitid(P_ALL, 0, &info, 0), -1);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(routed::waitid(P_PID, 0, &info, WEXITED), -1);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(routed::waitid(P_PIDFD, 9999, &info, WEXITED), -1);
    EXPECT_EQ(errno, EBADF);
    Child child(4);
    EXPECT_EQ(routed::waitpid(child.pid, &status, WNOHANG), 0);
    child.finish();
    EXPECT_EQ(routed::waitid(P_PID, id_t(child.pid), &info, WEXITED | WNOWAIT), 0);
    EXPECT_EQ(info.si_pid, child.pid);
    EXPECT_EQ(info.si_status, 4);
    EXPECT_EQ(routed::waitid(P_PID, id_t(child.pid), nullptr, WEXITED), 0);
    EXPECT_EQ(routed::waitpid(child.pid, &status, 0), -1);
    EXPECT_EQ(errno, ECHILD);
  });
}

TEST_P(ChildrenTest, WhoeverReapsFirstLeavesTheOthersNothing) {
  Child child;
  int outcomes[3] = {};
  std::vector<Fiber*> fibers;
  for (int& outcome : outcomes)
    fibers.push_back(&waiting([&] { outcome = routed::waitpid(child.pid, nullptr, 0) < 0 ? errno : 0; }));
  child.finish();
  for (Fiber* fiber : fibers) loop.join(*fiber);
  std::sort(outcomes, outcomes + 3);
  EXPECT_EQ(outcomes[0], 0);
  EXPECT_EQ(outcomes[1], ECHILD);
  EXPECT_EQ(outcomes[2], ECHILD);
}

TEST_P(ChildrenTest, StopsAndContinuesAreSeen) {
  Child child;
  std::vector<std::string> seen;
  Fiber& fiber = waiting([&] {
    for (int status = 0; routed::waitpid(child.pid, &status, WUNTRACED | WCONTINUED) == child.pid;) {
      seen.push_back(WIFSTOPPED(status) ? "stopped" : WIFCONTINUED(status) ? "continued" : "ended");
      if (seen.back() == "ended") break;
    }
  });
  kill(child.pid, SIGSTOP);
  while (seen.size() < 1) routed::sched_yield();
  kill(child.pid, SIGCONT);
  while (seen.size() < 2) routed::sched_yield();
  child.finish();
  loop.join(fiber);
  EXPECT_EQ(seen, (std::vector<std::string>{"stopped", "continued", "ended"}));
}

TEST_P(ChildrenTest, ASignalInterruptsEveryKindOfWait) {
  Child child;
  for (const pid_t pid : {child.pid, pid_t{-1}, pid_t{0}}) {
    pid_t result = 0;
    int error = 0;
    Fiber& fiber = waiting([&] {
      result = routed::waitpid(pid, nullptr, 0);
      error = errno;
    });
    EXPECT_FALSE(fiber.interrupt(true)) << "by a handler with SA_RESTART";
    EXPECT_TRUE(fiber.interrupt(false));
    loop.join(fiber);
    EXPECT_EQ(result, -1);
    EXPECT_EQ(error, EINTR);
  }
  // The threads that were left waiting serve those who come after.
  pid_t reaped = 0;
  Fiber& again = waiting([&] { reaped = routed::waitpid(-1, nullptr, 0); });
  child.finish();
  loop.join(again);
  EXPECT_EQ(reaped, child.pid);
}

TEST_P(ChildrenTest, IgnoredChildrenLeaveNothingToReap) {
  signal(SIGCHLD, SIG_IGN);
  for (const bool any : {false, true}) {
    Child child;
    int error = 0;
    Fiber& fiber =
        waiting([&] { error = routed::waitpid(any ? -1 : child.pid, nullptr, 0) < 0 ? errno : 0; });
    child.finish();
    loop.join(fiber);
    EXPECT_EQ(error, ECHILD);
  }
  signal(SIGCHLD, SIG_DFL);
}

TEST_P(ChildrenTest, CommandsLetOthersRun) {
  int status = -1, closed = -1, rounds = 0;
  bool over = false;
  Fiber& counter = loop.spawn([&] {
    for (; !over; ++rounds) routed::sched_yield();
  });
  loop.run([&] {
    status = routed::system("kill -TERM $$");
    EXPECT_TRUE(WIFSIGNALED(status)) << "the command was started with signals blocked";
    status = routed::system("sleep 0.05; exit 3");
    FILE* stream = popen("sleep 0.05; exit 4", "r");
    closed = routed::pclose(stream);
    over = true;
  });
  loop.join(counter);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  EXPECT_EQ(WEXITSTATUS(closed), 4);
  EXPECT_GT(rounds, 100);
}

}  // namespace
}  // namespace weft::engine::interpose
