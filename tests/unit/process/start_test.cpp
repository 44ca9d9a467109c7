// Starts that fail at each step, that are cancelled, and many at once: nothing is left behind.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "support/processes.hpp"

namespace weft::process::test {
namespace {

using namespace std::chrono_literals;

class StartTest : public ProcessTest {};

void expect_not_started(const std::vector<std::string>& words, const Options& options, int error,
                        Stage stage) {
  Executor executor(words, options);
  try {
    executor.start();
    FAIL() << "it was started";
  } catch (const NotStarted& failure) {
    EXPECT_EQ(failure.code().value(), error) << failure.what();
    EXPECT_EQ(failure.stage(), stage) << failure.what();
    EXPECT_EQ(std::string(failure.what()).find("`" + words.front()), 0u) << failure.what();
  }
  EXPECT_FALSE(executor.running());
  EXPECT_EQ(executor.pid(), -1);
}

TEST_F(StartTest, WhatCannotBeExecutedSaysAtWhatItFailed) {
  on_thread_and_in_fiber([] {
    Folder folder;
    const std::string plain = folder / "plain", script = folder / "script", folder_name = folder / "";
    std::ofstream(plain) << "no program";
    std::ofstream(script) << "#!/nowhere/interpreter\n";
    ASSERT_EQ(chmod(script.c_str(), 0755), 0);
    expect_not_started({"no-such-command-anywhere"}, {}, ENOENT, Stage::kExecute);
    expect_not_started({"/nowhere/at/all"}, {}, ENOENT, Stage::kExecute);
    expect_not_started({plain}, {}, EACCES, Stage::kExecute);
    expect_not_started({folder_name}, {}, EACCES, Stage::kExecute);
    expect_not_started({script}, {}, ENOENT, Stage::kExecute);
    ASSERT_EQ(chmod(plain.c_str(), 0755), 0);
    expect_not_started({plain}, {}, ENOEXEC, Stage::kExecute);

    Options options;
    options.cwd = "/nowhere";
    expect_not_started({"true"}, options, ENOENT, Stage::kFolder);
    options.cwd = plain;
    expect_not_started({"true"}, options, ENOTDIR, Stage::kFolder);
    options = {};
    options.passed = {{1000, 5}};
    expect_not_started({"true"}, options, EBADF, Stage::kDescriptors);
    options = {};
    options.standard_output = StreamTo::descriptor(1000);
    expect_not_started({"true"}, options, EBADF, Stage::kDescriptors);
    options = {};
    options.limits = {{1000, 1, 1}};
    expect_not_started({"true"}, options, EINVAL, Stage::kLimits);
    options = {};
    options.environment["PATH"] = folder / "";
    expect_not_started({"true"}, options, ENOENT, Stage::kExecute);
  });
}

TEST_F(StartTest, WhatIsForAShellIsNamed) {
  const auto words = [](const char* line) {
    try {
      Executor(line).start();
    } catch (const NotStarted& failure) {
      return std::string(failure.what());
    }
    return std::string("it was started");
  };
  for (const char* line :
       {"cd / && sleep 1000", "PORT=1 sleep 1000", "/nowhere/server 2>&1", "'server --port 8000'"})
    EXPECT_NE(words(line).find("nor in a folder of PATH. If '"), std::string::npos) << words(line);
  EXPECT_NE(words("cd / && sleep 1000").find("'cd' was meant for a shell: one text"), std::string::npos);
  EXPECT_NE(words("PORT=1 sleep 1000").find("'PORT=1' was meant for a shell"), std::string::npos);
  for (const char* line : {"/nowhere/server --a=b", "/nowhere/a=b", "a-b=c/nowhere", "/nowhere/find . ';'"})
    EXPECT_EQ(words(line).find("was meant for a shell"), std::string::npos) << words(line);
}

// In PATH, one that may not be executed is passed over; if there is no other, it is the reason.
TEST_F(StartTest, PathIsSearchedToItsEnd) {
  Folder first, second;
  std::ofstream(first / "tool") << "no program";
  Options options;
  options.environment["PATH"] = first / "" + ":" + second / "";
  expect_not_started({"tool"}, options, EACCES, Stage::kExecute);
  std::ofstream(second / "tool") << "#!/bin/sh\nexit 3\n";
  ASSERT_EQ(chmod((second / "tool").c_str(), 0755), 0);
  EXPECT_EQ(Executor("tool", options).start().wait(), 3);
}

TEST_F(StartTest, ACancelledStartLeavesNothing) {
  for (int i = 0; i < 3; ++i) {
    weft::Event looked;
    pid_t pid = -1;
    Executor executor("sleep 1000", {},
                      Readiness::custom(
                          [&] {
                            pid = executor.pid();
                            looked.set();
                            return false;
                          },
                          "never"));
    auto fiber = weft::spawn([&] { executor.start(); });
    looked.wait();
    EXPECT_TRUE(is_alive(pid));
    fiber.cancel();
    EXPECT_THROW(fiber.result(), weft::Cancelled);
    EXPECT_FALSE(is_alive(pid));
    EXPECT_FALSE(executor.running());
  }
}

TEST_F(StartTest, AStartThatIsCancelledAtAnyMomentLeavesNothing) {
  for (int yields = 0; yields < 40; ++yields) {
    Executor executor("sleep 1000", {}, Readiness::custom([] { return false; }, "never"));
    auto fiber = weft::spawn([&] { executor.start(); });
    for (int i = 0; i < yields; ++i) weft::sleep(std::chrono::microseconds(100));
    fiber.cancel();
    EXPECT_THROW(fiber.result(), weft::Cancelled);
    EXPECT_FALSE(executor.running());
  }
}

TEST_F(StartTest, ATimeoutScopeEndsTheStart) {
  Executor executor("sleep 1000", {}, Readiness::custom([] { return false; }, "never"));
  weft::spawn([&] {
    weft::TimeoutScope scope(20ms);
    EXPECT_THROW(executor.start(), weft::Timeout);
  }).result();
  EXPECT_FALSE(is_alive(executor.pid()));
}

TEST_F(StartTest, WhatTheReadinessThrowsEndsTheTree) {
  pid_t pid = -1;
  Executor executor("sleep 1000", {},
                    Readiness::custom(
                        [&]() -> bool {
                          pid = executor.pid();
                          throw std::domain_error("mine");
                        },
                        "throws"));
  EXPECT_THROW(executor.start(), std::domain_error);
  EXPECT_FALSE(is_alive(pid));
}

TEST_F(StartTest, TwoHundredAtOnceInFibers) {
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < 2000) GTEST_SKIP() << "needs 2000 descriptors";
  rlimit raised = limit;
  raised.rlim_cur = std::max<rlim_t>(limit.rlim_cur, 2000);
  setrlimit(RLIMIT_NOFILE, &raised);
  std::vector<std::unique_ptr<Executor>> executors;
  for (int i = 0; i < 200; ++i)
    executors.push_back(std::make_unique<Executor>("echo " + std::to_string(i) + "; exec sleep 1000",
                                                   in_shell(),
                                                   Readiness::output("^" + std::to_string(i) + "$")));
  weft::TaskGroup::run([&](weft::TaskGroup& group) {
    for (auto& executor : executors) group.spawn([&] { executor->start(); });
  });
  for (int i = 0; i < 200; ++i) {
    EXPECT_TRUE(executors[static_cast<size_t>(i)]->running());
    EXPECT_EQ(executors[static_cast<size_t>(i)]->output().read_line(), std::to_string(i));
  }
  weft::TaskGroup::run([&](weft::TaskGroup& group) {
    for (auto& executor : executors) group.spawn([&] { executor->stop(); });
  });
  for (auto& executor : executors) EXPECT_EQ(executor->exit_code(), -SIGTERM);
  setrlimit(RLIMIT_NOFILE, &limit);
}

// In a program of its own, where the watcher has not been set up either: descriptors run out at one after
// the other of all steps.
int exhaust_descriptors() {
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  const auto count = [] {
    const std::string all = descriptors();
    return std::count(all.begin(), all.end(), '\n');
  };
  // One more is the library's own: that by which it watches.
  const auto before = count();
  int refused = 0;
  for (rlim_t most = 4; most < 64; ++most) {
    rlimit low = limit;
    low.rlim_cur = most;
    setrlimit(RLIMIT_NOFILE, &low);
    bool started = false;
    int error = 0;
    try {
      Executor executor("true");
      executor.start();
      started = executor.wait() == 0;
    } catch (const NotStarted& failure) {
      error = failure.code().value();
    }
    setrlimit(RLIMIT_NOFILE, &limit);
    if (started) {
      printf("refused %d\n", refused);
      return refused > 5 ? 0 : 3;
    }
    ++refused;
    if (error != EMFILE) return printf("at %d: %s\n", static_cast<int>(most), strerror(error)), 4;
    if (waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD) return printf("a child was left\n"), 5;
    if (!eventually([&] { return count() <= before + 1; }))
      return printf("left:\n%s", descriptors().c_str()), 6;
  }
  return 7;
}

TEST_F(StartTest, WithoutDescriptorsItFailsAtAnyStepAndLeavesNothing) {
  Executor program({std::filesystem::read_symlink("/proc/self/exe").string(), "--exhaust"});
  program.start();
  EXPECT_EQ(program.wait(), 0) << program.last_output();
}

}  // namespace
}  // namespace weft::process::test

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "--exhaust") == 0) return weft::process::test::exhaust_descriptors();
  testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
