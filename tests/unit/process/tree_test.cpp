// What a command starts ends with it, whoever ends, and however the processes detach themselves.
#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <csignal>
#include <cstring>
#include <sstream>
#include <thread>

#include "support/processes.hpp"

namespace weft::process::test {
namespace {

using namespace std::chrono_literals;

class TreeTest : public ProcessTest {};

// A child, one in a session of its own, and one whose parents have ended; each process writes its number.
constexpr const char* kFamily =
    "echo $$; sleep 1001 & echo $!; setsid sh -c 'echo $$; exec sleep 1002' & "
    "( setsid sh -c '( sh -c \"echo \\$\\$; exec sleep 1003\" & )' & ); ";
constexpr int kFamilySize = 4;

std::vector<pid_t> read_pids(const std::function<std::optional<std::string>()>& read_line, int count) {
  std::vector<pid_t> pids;
  while (static_cast<int>(pids.size()) < count) {
    const auto line = read_line();
    if (!line) break;
    pids.push_back(atoi(line->c_str()));
  }
  return pids;
}

std::vector<pid_t> family_of(Executor& executor) {
  const auto pids = read_pids([&] { return executor.output().read_line(); }, kFamilySize);
  EXPECT_EQ(pids.size(), static_cast<size_t>(kFamilySize));
  for (const pid_t pid : pids) EXPECT_TRUE(is_alive(pid)) << pid;
  return pids;
}

void expect_dead(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids) EXPECT_FALSE(is_alive(pid)) << pid;
}

TEST_F(TreeTest, StopEndsAllThatDescendsFromIt) {
  on_thread_and_in_fiber([] {
    Executor executor(std::string(kFamily) + "wait", in_shell());
    executor.start();
    const auto family = family_of(executor);
    executor.stop();
    expect_dead(family);
  });
}

TEST_F(TreeTest, KillDoesSoToo) {
  Executor executor(std::string(kFamily) + "wait", in_shell());
  executor.start();
  const auto family = family_of(executor);
  executor.kill();
  EXPECT_EQ(executor.exit_code(), -SIGKILL);
  expect_dead(family);
}

TEST_F(TreeTest, TheDestructorDoesSoToo) {
  std::vector<pid_t> family;
  {
    Executor executor(std::string(kFamily) + "wait", in_shell());
    family = family_of(executor.start());
  }
  expect_dead(family);
}

TEST_F(TreeTest, WhatItsCommandLeftBehindIsEnded) {
  Executor executor(std::string(kFamily) + "exit 0", in_shell());
  executor.start();
  const auto pids = read_pids([&] { return executor.output().read_line(); }, kFamilySize);
  EXPECT_EQ(executor.wait(), 0);
  EXPECT_TRUE(executor.running()) << "as a daemon does";
  EXPECT_TRUE(is_alive(pids[1]));
  executor.stop();
  EXPECT_FALSE(executor.running());
  expect_dead(pids);
}

TEST_F(TreeTest, OneThatIgnoresSigtermIsKilledAfterTheGraceAndNotBefore) {
  Options options = in_shell();
  options.grace = 300ms;
  Executor executor("trap '' TERM; echo ready; while :; do sleep 1000; done", options,
                    Readiness::output("ready"));
  executor.start();
  const pid_t pid = executor.pid();
  const auto begin = std::chrono::steady_clock::now();
  std::thread watcher([&] {
    while (is_alive(pid)) usleep(1000);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 300ms);
  });
  executor.stop();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 300ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  EXPECT_EQ(executor.exit_code(), -SIGKILL);
  watcher.join();
}

TEST_F(TreeTest, OneThatEndsInTimeIsNotKilled) {
  Options options = in_shell();
  options.expected_exit = 4;
  options.stop_signal = SIGHUP;
  Executor executor("trap 'exit 4' HUP; echo ready; while :; do sleep 1000 & wait; done", options,
                    Readiness::output("ready"));
  executor.start();
  EXPECT_NO_THROW(executor.stop());
  EXPECT_EQ(executor.exit_code(), 4);
}

TEST_F(TreeTest, AnotherKillSignalComesAfterTheGrace) {
  Options options = in_shell();
  options.grace = 100ms;
  options.kill_signal = SIGUSR1;
  options.expected_exit = 9;
  Executor executor("trap '' TERM; trap 'exit 9' USR1; echo ready; while :; do sleep 1000 & wait; done",
                    options, Readiness::output("ready"));
  executor.start();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_NO_THROW(executor.stop());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 100ms);
}

TEST_F(TreeTest, OneThatIsStoppedIsEndedByItsStopSignal) {
  Executor executor("sleep 1000");
  executor.start();
  executor.signal(SIGSTOP);
  executor.stop();
  EXPECT_EQ(executor.exit_code(), -SIGTERM);
}

TEST_F(TreeTest, ACancelledStopCutsTheGraceShort) {
  Options options = in_shell();
  options.grace = 1h;
  Executor executor("trap '' TERM; echo ready; while :; do sleep 1000; done", options,
                    Readiness::output("ready"));
  executor.start();
  const pid_t pid = executor.pid();
  weft::Event began;
  auto stopper = weft::spawn([&] {
    began.set();
    executor.stop();
  });
  began.wait();
  stopper.cancel();
  EXPECT_THROW(stopper.result(), weft::Cancelled);
  EXPECT_FALSE(is_alive(pid));
}

TEST_F(TreeTest, AForkBombIsEnded) {
  // Each of eight lines begins its successor, in a session of its own, and ends.
  Folder folder;
  const std::string script = folder / "run";
  {
    std::ofstream file(script);
    file << "setsid sh " << script << " & exit 0\n";
  }
  Options options = in_shell();
  options.grace = 0s;
  Executor executor(
      "for i in 1 2 3 4 5 6 7 8; do setsid sh " + script + " & done; echo ready; exec sleep 1000", options,
      Readiness::output("ready"));
  executor.start();
  executor.stop();
  EXPECT_FALSE(executor.running());
}

TEST_F(TreeTest, AKeeperThatIsKilledIsTold) {
  on_thread_and_in_fiber([] {
    Executor executor("sleep 1000");
    executor.start();
    const pid_t pid = executor.pid();
    ASSERT_EQ(kill(parent_of(pid), SIGKILL), 0);
    EXPECT_EQ(executor.wait(), -SIGKILL);
    EXPECT_TRUE(eventually([&] { return !is_alive(pid); }));
    EXPECT_THROW(executor.stop(), StopError);
  });
}

TEST_F(TreeTest, StopBesideWaitEndsThat) {
  Executor executor("sleep 1000");
  executor.start();
  auto waiter = weft::spawn([&] { return executor.wait(); });
  auto other = weft::spawn([&] { executor.stop(); });
  executor.stop();
  other.result();
  EXPECT_EQ(waiter.result(), -SIGTERM);
}

// A program that starts the family and is killed itself: this one, run again with `role`.
class Program {
 public:
  explicit Program(const char* role) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    const std::string option = std::string("--role=") + role;
    const char* const arguments[] = {"tree_test", option.c_str(), nullptr};
    EXPECT_EQ(posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, const_cast<char**>(arguments), environ),
              0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    output_ = fdopen(ends[0], "r");
  }
  ~Program() { fclose(output_); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  std::optional<std::string> read_line() {
    char line[256];
    if (!fgets(line, sizeof line, output_)) return std::nullopt;
    return std::string(line, strcspn(line, "\n"));
  }
  void end(int signal) {
    EXPECT_EQ(kill(pid_, signal), 0);
    int status;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
  }

 private:
  pid_t pid_ = -1;
  FILE* output_;
};

void expect_soon_dead(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids) EXPECT_TRUE(eventually([&] { return !is_alive(pid); })) << pid;
}

TEST_F(TreeTest, SigkillOfTheProgramLeavesNobody) {
  Program program("plain");
  const auto pids = read_pids([&] { return program.read_line(); }, kFamilySize + 1);
  ASSERT_EQ(pids.size(), kFamilySize + 1u);
  for (const pid_t pid : pids) EXPECT_TRUE(is_alive(pid)) << pid;
  program.end(SIGKILL);
  expect_soon_dead(pids);
}

TEST_F(TreeTest, AForkOfTheProgramThatLivesOnKeepsNobodyAlive) {
  Program program("forking");
  auto pids = read_pids([&] { return program.read_line(); }, kFamilySize + 2);
  ASSERT_EQ(pids.size(), kFamilySize + 2u);
  const pid_t fork_child = pids.back();
  pids.pop_back();
  program.end(SIGKILL);
  expect_soon_dead(pids);
  EXPECT_TRUE(is_alive(fork_child));
  EXPECT_EQ(kill(fork_child, SIGKILL), 0);
}

// As a fork would that was made just when the keeper was started.
TEST_F(TreeTest, AKeeperThatIsKilledIsNoticedThoughItsSocketIsHeld) {
  constexpr int kControl = 3;  // the keeper's end
  Executor executor("sleep 1000");
  executor.start();
  const pid_t command = executor.pid(), keeper = parent_of(command);
  const int process = static_cast<int>(syscall(SYS_pidfd_open, keeper, 0));
  ASSERT_GE(process, 0);
  const int held = static_cast<int>(syscall(SYS_pidfd_getfd, process, kControl, 0));
  if (held < 0 && (errno == EPERM || errno == ENOSYS)) {
    close(process);
    GTEST_SKIP() << "pidfd_getfd(2) is not allowed";
  }
  ASSERT_GE(held, 0);
  int type = 0;
  socklen_t size = sizeof type;
  ASSERT_EQ(getsockopt(held, SOL_SOCKET, SO_TYPE, &type, &size), 0) << "no socket is at " << kControl;
  ASSERT_EQ(kill(keeper, SIGKILL), 0);
  EXPECT_EQ(executor.wait_for(20s), -SIGKILL);
  EXPECT_THROW(executor.stop(), StopError);
  expect_soon_dead({command});
  close(held);
  close(process);
}

// The fork child destroys its copy of the Executor: the command is not its own.
TEST_F(TreeTest, AForkOfTheProgramDoesNotEndTheCommand) {
  Program program("fork-destroys");
  const auto pids = read_pids([&] { return program.read_line(); }, kFamilySize + 1);
  ASSERT_EQ(pids.size(), kFamilySize + 1u);
  EXPECT_EQ(program.read_line(), "fork child: 0 0");
  for (const pid_t pid : pids) EXPECT_TRUE(is_alive(pid)) << pid;
  program.end(SIGKILL);
  expect_soon_dead(pids);
}

// Writes the numbers of the family and of the keeper, and waits for its end.
int play(const std::string& role) {
  auto* executor = new Executor(std::string(kFamily) + "wait", in_shell());
  executor->start();
  std::stringstream text;
  for (int i = 0; i < kFamilySize; ++i) text << *executor->output().read_line() << "\n";
  text << parent_of(executor->pid()) << "\n";
  pid_t child = -1;
  if (role == "forking") {
    child = fork();
    if (child == 0)
      for (;;) pause();
    text << child << "\n";
  } else if (role == "fork-destroys") {
    child = fork();
    if (child == 0) {
      const bool running = executor->running();
      executor->stop();
      delete executor;
      printf("%sfork child: %d %d\n", text.str().c_str(), running, 0);
      fflush(stdout);
      _exit(0);
    }
    waitpid(child, nullptr, 0);
    text.str("");
  }
  printf("%s", text.str().c_str());
  fflush(stdout);
  for (;;) pause();
}

}  // namespace
}  // namespace weft::process::test

int main(int count, char** arguments) {
  if (count == 2 && strncmp(arguments[1], "--role=", 7) == 0)
    return weft::process::test::play(arguments[1] + 7);
  testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
