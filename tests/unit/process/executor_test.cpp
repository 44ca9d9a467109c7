// What an Executor does with a command that runs: its output, input, descriptors, surroundings and exit.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <thread>

#include "support/processes.hpp"

namespace weft::process::test {
namespace {

using namespace std::chrono_literals;

class ExecutorTest : public ProcessTest {};

std::string output_of(const std::string& line, Options options = {}) {
  options.shell = true;
  Executor executor(line, options);
  executor.start();
  return executor.output().read_all();
}

TEST_F(ExecutorTest, RunsAndTellsTheExit) {
  on_thread_and_in_fiber([] {
    Executor executor("exit 7", in_shell());
    EXPECT_FALSE(executor.running());
    EXPECT_EQ(executor.pid(), -1);
    EXPECT_THROW(executor.wait(), std::logic_error);
    executor.start();
    EXPECT_GT(executor.pid(), 0);
    EXPECT_EQ(executor.wait(), 7);
    EXPECT_EQ(executor.exit_code(), 7);
    EXPECT_FALSE(executor.running());
  });
}

TEST_F(ExecutorTest, StopEndsItBySigterm) {
  on_thread_and_in_fiber([] {
    Executor executor("sleep 1000");
    executor.start();
    const pid_t pid = executor.pid();
    EXPECT_TRUE(executor.running());
    EXPECT_EQ(executor.wait_for(1ms), std::nullopt);
    executor.stop();
    EXPECT_FALSE(is_alive(pid));
    EXPECT_EQ(executor.exit_code(), -SIGTERM);
    executor.stop();
  });
}

TEST_F(ExecutorTest, CanBeStartedAgain) {
  Executor executor("echo $$; exec sleep 1000", in_shell(), Readiness::output("\\d+"));
  for (int i = 0; i < 3; ++i) {
    executor.start();
    const pid_t pid = executor.pid();
    EXPECT_EQ(executor.start().pid(), pid) << "a second start() was to do nothing";
    EXPECT_EQ(executor.output().read_line(), std::to_string(pid));
    executor.stop();
  }
}

TEST_F(ExecutorTest, ItsEndIsTheEndOfTheCommand) {
  pid_t pid = -1;
  {
    Executor executor("sleep 1000");
    Executor other = std::move(executor.start());
    pid = other.pid();
    EXPECT_TRUE(other.running());
    EXPECT_FALSE(executor.running());
    EXPECT_TRUE(is_alive(pid));
  }
  EXPECT_FALSE(is_alive(pid));
}

TEST_F(ExecutorTest, UnexpectedExitsAreErrorsOfStop) {
  Executor executor("echo going; echo wrong >&2; exit 3", in_shell());
  executor.start();
  executor.wait();
  try {
    executor.stop();
    FAIL() << "it exited with 3";
  } catch (const StopError& error) {
    EXPECT_EQ(error.exit_code(), 3);
    EXPECT_EQ(error.output(), "going\nwrong");
    EXPECT_NE(std::string(error.what()).find("exited with 3"), std::string::npos) << error.what();
  }
  Options expecting = in_shell();
  expecting.expected_exit = 3;
  Executor as_expected("exit 3", expecting);
  as_expected.start().wait();
  EXPECT_NO_THROW(as_expected.stop());
  Executor not_as_expected("exit 0", expecting);
  not_as_expected.start().wait();
  EXPECT_THROW(not_as_expected.stop(), StopError);
}

TEST_F(ExecutorTest, OutputIsReadByLines) {
  on_thread_and_in_fiber([] {
    Executor executor("printf 'one\\n\\nthree'; printf 'e1\\ne2\\n' >&2", in_shell());
    executor.start();
    EXPECT_EQ(executor.output().read_line(), "one");
    EXPECT_EQ(executor.output().read_line(), "");
    EXPECT_EQ(executor.output().read_line(), "three");
    EXPECT_EQ(executor.output().read_line(), std::nullopt);
    EXPECT_EQ(executor.errors().read_some(), "e1\ne2\n");
    EXPECT_EQ(executor.errors().read_some(), "");
    EXPECT_EQ(executor.errors().tail(1), "e2\n");
    EXPECT_EQ(executor.output().tail(2), "\nthree");
    EXPECT_EQ(executor.output().tail(0), "");
    EXPECT_EQ(executor.output().tail(100), "one\n\nthree");
    EXPECT_EQ(executor.wait(), 0);
  });
}

TEST_F(ExecutorTest, MergedErrorsAreInTheOutput) {
  Options options;
  options.standard_error = StreamTo::merged();
  EXPECT_EQ(output_of("echo one; echo two >&2; echo three", options), "one\ntwo\nthree\n");
}

TEST_F(ExecutorTest, AFloodOfOutputPassesWithoutAReader) {
  Options options = in_shell();
  options.kept_output = 64 * 1024;
  Executor executor("head -c 104857600 /dev/zero; echo; echo end", options);
  executor.start();
  EXPECT_EQ(executor.wait(), 0);
  OutputReader late = executor.output();
  const std::string rest = late.read_all();
  EXPECT_EQ(rest.size(), 64u * 1024u);
  EXPECT_EQ(late.bytes_lost(), 104857600u + 5u - 64u * 1024u);
  EXPECT_EQ(executor.output().tail(1), "end\n");
}

TEST_F(ExecutorTest, AFloodOfOutputIsReadWhole) {
  Options options = in_shell();
  options.kept_output = size_t{8} << 20;
  Executor executor("head -c 8000000 /dev/zero", options);
  executor.start();
  EXPECT_EQ(executor.output().read_all().size(), 8'000'000u);
  EXPECT_EQ(executor.output().bytes_lost(), 0u);
}

TEST_F(ExecutorTest, InputIsWrittenToTheEnd) {
  on_thread_and_in_fiber([] {
    Executor executor("wc -c");
    executor.start();
    executor.input().write(std::string(1'000'000, 'x'));  // more than a pipe holds
    executor.input().close();
    EXPECT_EQ(atoi(executor.output().read_all().c_str()), 1'000'000);
    EXPECT_EQ(executor.wait(), 0);
    executor.input().close();
    EXPECT_THROW(executor.input().write("x"), std::system_error);
  });
}

TEST_F(ExecutorTest, WritingToOneThatReadsNoMoreRaisesNoSignal) {
  // SIGPIPE has its default here, which would end the test.
  Executor executor("true");
  executor.start();
  executor.wait();
  try {
    executor.input().write("x");
    FAIL() << "nobody reads";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().value(), EPIPE);
  }
  sigset_t pending;
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&pending, SIGPIPE));
}

TEST_F(ExecutorTest, AWriterIsCancelled) {
  Executor executor("sleep 1000");
  executor.start();
  weft::Event began;
  auto writer = weft::spawn([&] {
    began.set();
    executor.input().write(std::string(1'000'000, 'x'));
  });
  began.wait();
  writer.cancel();
  EXPECT_THROW(writer.result(), weft::Cancelled);
  EXPECT_TRUE(executor.running());
}

TEST_F(ExecutorTest, PassesDescriptorsUnderOtherNumbers) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  {
    Options options = in_shell();
    options.passed = {{ends[1], 7}, {ends[0], 5}};
    Executor executor("echo seven >&7; read line <&5; echo $line", options);
    executor.start();
    EXPECT_EQ(executor.output().read_all(), "seven\n");
  }
  close(ends[1]);
  char rest;
  EXPECT_EQ(read(ends[0], &rest, 1), 0) << "somebody holds the pipe yet";
  close(ends[0]);
}

TEST_F(ExecutorTest, TheCommandHasNoOtherDescriptors) {
  const int inherited = fcntl(0, F_DUPFD, 60);
  ASSERT_GE(inherited, 60);
  EXPECT_EQ(output_of("ls /proc/self/fd"), "0\n1\n2\n3\n");  // 3 is of ls
  close(inherited);
}

TEST_F(ExecutorTest, ItsKeeperHoldsNothingOfTheProgram) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const int inherited = fcntl(ends[1], F_DUPFD, 60);
  ASSERT_GE(inherited, 60);
  close(ends[1]);
  Executor executor("sleep 1000");
  executor.start();
  close(inherited);
  ASSERT_EQ(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
  char rest;
  EXPECT_EQ(read(ends[0], &rest, 1), 0) << "not at its end: the keeper has\n"
                                        << descriptors(parent_of(executor.pid()));
  close(ends[0]);
}

TEST_F(ExecutorTest, LimitsUmaskNiceAndFolderAreTheCommands) {
  Options options;
  options.limits = {{RLIMIT_NOFILE, 77, 99}};
  options.umask = 027;
  options.nice = 3;
  options.cwd = "/usr";
  EXPECT_EQ(output_of("ulimit -n; ulimit -Hn; umask; pwd", options), "77\n99\n0027\n/usr\n");
  const int own = getpriority(PRIO_PROCESS, 0);
  EXPECT_EQ(output_of("nice", options), std::to_string(std::min(own + 3, 19)) + "\n");
}

TEST_F(ExecutorTest, EnvironmentIsAddedToOrBegunAnew) {
  setenv("WEFT_TEST_KEPT", "kept", 1);
  setenv("WEFT_TEST_CHANGED", "former", 1);
  setenv("WEFT_TEST_REMOVED", "there", 1);
  Options options;
  options.environment = {{"WEFT_TEST_CHANGED", "new"}, {"WEFT_TEST_REMOVED", std::nullopt}};
  const std::string ask = "echo $WEFT_TEST_KEPT,$WEFT_TEST_CHANGED,$WEFT_TEST_REMOVED.";
  EXPECT_EQ(output_of(ask, options), "kept,new,.\n");
  options.clear_environment = true;
  EXPECT_EQ(output_of(ask, options), ",new,.\n");
  for (const char* name : {"WEFT_TEST_KEPT", "WEFT_TEST_CHANGED", "WEFT_TEST_REMOVED"}) unsetenv(name);
}

TEST_F(ExecutorTest, SignalsAreAtTheirDefaults) {
  std::thread([] {
    sigset_t blocked, former;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &blocked, &former);
    const auto pipes = signal(SIGPIPE, SIG_IGN), others = signal(SIGUSR2, SIG_IGN);
    EXPECT_EQ(output_of("exec grep -E 'Sig(Blk|Ign)' /proc/self/status"),
              "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    signal(SIGPIPE, pipes);
    signal(SIGUSR2, others);
    pthread_sigmask(SIG_SETMASK, &former, nullptr);
  }).join();
}

TEST_F(ExecutorTest, SignalsThatPythonIgnoresStayIgnoredWhereAskedFor) {
  const auto former = signal(SIGPIPE, SIG_IGN);
  const char* const arguments[] = {"grep", "SigIgn", "/proc/self/status", nullptr};
  detail::ChildRequest request;
  request.file = arguments[0];
  request.arguments = arguments;
  for (const bool keep : {false, true}) {
    request.keep_ignored_signals = keep;
    detail::ChildFailure failure;
    detail::Outcome outcome;
    const auto child =
        detail::ChildRef::adopt(detail::start_child(request, detail::kNever, failure, outcome));
    ASSERT_TRUE(child) << failure.error;
    EXPECT_EQ(OutputReader(child, 1).read_all(),
              keep ? "SigIgn:\t0000000000001000\n" : "SigIgn:\t0000000000000000\n");
    EXPECT_TRUE(eventually([&] { return detail::child_state(child.get()).gone; }));
  }
  signal(SIGPIPE, former);
}

TEST_F(ExecutorTest, SignalsReachTheCommandOrItsGroup) {
  Executor executor("trap 'echo got' USR1; echo ready; while :; do sleep 1000 & wait; done", in_shell(),
                    Readiness::output("ready"));
  executor.start();
  EXPECT_EQ(executor.output().read_line(), "ready");
  executor.signal(SIGUSR1);
  EXPECT_EQ(executor.output().read_line(), "got");
  executor.signal(SIGKILL, Scope::kGroup);
  EXPECT_EQ(executor.wait(), -SIGKILL);
  EXPECT_THROW(executor.signal(0), std::system_error);
  EXPECT_THROW(executor.signal(SIGUSR1), std::system_error);
}

TEST_F(ExecutorTest, StreamsCanBeDescriptorsOrNothing) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  Options options = in_shell();
  options.standard_input = StreamTo::null();
  options.standard_output = StreamTo::descriptor(ends[1]);
  options.standard_error = StreamTo::null();
  {
    Executor executor("cat; echo to the pipe; echo to nobody >&2", options);
    executor.start();
    EXPECT_EQ(executor.wait(), 0);
    EXPECT_EQ(executor.output().read_all(), "");
    EXPECT_EQ(executor.output().read_line(), std::nullopt);
  }
  close(ends[1]);
  char text[64];
  EXPECT_EQ(std::string(text, static_cast<size_t>(read(ends[0], text, sizeof text))), "to the pipe\n");
  EXPECT_EQ(read(ends[0], text, sizeof text), 0);
  close(ends[0]);
}

}  // namespace
}  // namespace weft::process::test
