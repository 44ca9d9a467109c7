#include "runtime/dump.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string>
#include <thread>

#include "fiber/parking_lot.hpp"
#include "runtime/crash.hpp"

namespace weft::engine {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

// Runs `script` in a process of its own, since a runtime is for ever, and returns what it wrote to standard
// error.
struct Ended {
  int status;
  std::string text;
};
template <typename Script>
Ended in_child(Script&& script) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    script();
    _exit(0);
  }
  close(ends[1]);
  Ended ended{};
  char buffer[4096];
  for (ssize_t count; (count = read(ends[0], buffer, sizeof buffer)) > 0;)
    ended.text.append(buffer, static_cast<size_t>(count));
  close(ends[0]);
  waitpid(child, &ended.status, 0);
  return ended;
}

// On a runtime's carrier, whose fibers a second thread dumps.
class Rig {
 public:
  Rig() : runtime_(*Runtime::start({})) {}

  Fiber& start(const char* name, void* (*entry)(void*), void* argument = nullptr) {
    Fiber& fiber = *runtime_.create_fiber(entry, argument, 64 * 1024);
    fiber.set_name(name);
    runtime_.carrier().start(fiber);
    return fiber;
  }

  // Lets fibers run until they all wait, and has the dump written to standard error meanwhile.
  void dump_while_parked(dump::Form form = dump::Form::kGrouped) {
    runtime_.carrier().yield();
    std::atomic<bool> done{false};
    std::thread dumper([&] {
      const std::string text = dump::take(runtime_.carrier(), form);
      EXPECT_EQ(write(STDERR_FILENO, text.data(), text.size()), static_cast<ssize_t>(text.size()));
      done = true;
    });
    while (!done) runtime_.carrier().sleep_until(monotonic_now() + kMillisecond, kUninterruptible, "test");
    dumper.join();
  }

  Runtime& runtime() { return runtime_; }

 private:
  Runtime& runtime_;
};

int g_word;
int g_pipe[2];

void* wait_for_ever(void*) {
  ParkingLot::instance().park(&g_word, kNever, kUninterruptible, {WaitKind::kLock, "sem_wait", &g_word},
                              [] { return true; });
  return nullptr;
}

void* wait_for_pipe(void*) {
  Poller::of_this_carrier().wait(g_pipe[0], 1, kNever, kUninterruptible, "read");
  return nullptr;
}

TEST(Dump, ExplainsWhatEachFiberWaitsFor) {
  const Ended ended = in_child([] {
    Rig rig;
    EXPECT_EQ(pipe(g_pipe), 0);
    rig.start("locked", &wait_for_ever);
    rig.start("reader", &wait_for_pipe);
    rig.dump_while_parked();
  });
  EXPECT_EQ(ended.status, 0);
  char address[32];
  snprintf(address, sizeof address, "address %p", static_cast<void*>(&g_word));
  EXPECT_TRUE(contains(ended.text, "\"locked\" waits in sem_wait (lock) for 0.")) << ended.text;
  EXPECT_TRUE(contains(ended.text, address)) << ended.text;
  EXPECT_TRUE(contains(ended.text, "\"reader\" waits in read (io) for 0.")) << ended.text;
  EXPECT_TRUE(contains(ended.text, ": pipe:[")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "wait_for_ever")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "wait_for_pipe")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "\"main\"")) << ended.text;
}

TEST(Dump, WritesEqualStacksOnce) {
  const Ended ended = in_child([] {
    Rig rig;
    for (int i = 0; i < 3; ++i) rig.start("same", &wait_for_ever);
    rig.dump_while_parked(dump::Form::kAll);
  });
  EXPECT_EQ(count(ended.text, "\"same\" waits in sem_wait"), 3) << ended.text;
  EXPECT_EQ(ended.text.find("wait_for_ever"), ended.text.rfind("wait_for_ever")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "native: as fiber")) << ended.text;
}

TEST(Dump, TellsOfEqualFibersOnce) {
  const Ended ended = in_child([] {
    Rig rig;
    EXPECT_EQ(pipe(g_pipe), 0);
    for (int i = 0; i < 1234; ++i) rig.start("same", &wait_for_ever);
    for (int i = 0; i < 2; ++i) rig.start("reader", &wait_for_pipe);
    rig.dump_while_parked();
  });
  EXPECT_EQ(ended.status, 0);
  char address[40];
  snprintf(address, sizeof address, " s, all at address %p\n", static_cast<void*>(&g_word));
  EXPECT_EQ(count(ended.text, "wait_for_ever"), 1) << ended.text;
  EXPECT_TRUE(contains(ended.text, "\n1,234 fibers wait in sem_wait (lock) for 0.")) << ended.text;
  EXPECT_TRUE(contains(ended.text, address)) << ended.text;
  EXPECT_TRUE(contains(ended.text, " \"same\" and 1,229 more\n")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "\n2 fibers wait in read (io) for 0.")) << ended.text;
  EXPECT_TRUE(contains(ended.text, " s, descriptor ")) << ended.text;
  EXPECT_TRUE(contains(ended.text, " \"reader\" and ")) << ended.text;
}

TEST(Dump, KeepsFibersApartThatWaitForDifferentHolders) {
  const Ended ended = in_child([] {
    Rig rig;
    dump::hooks.describe_holder = [](const WaitReason& reason, host::TextSink& sink) noexcept {
      if (reason.object) sink.write(reason.object == &g_word ? "held by one" : "held by another");
    };
    static int other_word;
    const auto wait = [](void* word) -> void* {
      ParkingLot::instance().park(word, kNever, kUninterruptible, {WaitKind::kLock, "sem_wait", word},
                                  [] { return true; });
      return nullptr;
    };
    for (int* word : {&g_word, &g_word, &other_word}) rig.start("locked", wait, word);
    rig.dump_while_parked();
  });
  EXPECT_TRUE(contains(ended.text, "\n2 fibers wait in sem_wait")) << ended.text;
  EXPECT_TRUE(contains(ended.text, ", held by one\n")) << ended.text;
  EXPECT_TRUE(contains(ended.text, ", held by another\n")) << ended.text;
}

TEST(Dump, ShowsTheFiberThatDoesNotGiveWay) {
  const Ended ended = in_child([] {
    Rig rig;
    rig.start("parked", &wait_for_ever);
    rig.runtime().carrier().yield();
    // The main fiber runs on while it is dumped.
    std::atomic<bool> done{false};
    std::thread dumper([&] {
      dump::take(rig.runtime().carrier());
      const std::string text = dump::take(rig.runtime().carrier());
      EXPECT_EQ(write(STDERR_FILENO, text.data(), text.size()), static_cast<ssize_t>(text.size()));
      done = true;
    });
    while (!done) {
    }
    dumper.join();
    // What was meant to stop the carrier is still on its way, and must do no harm.
    rig.dump_while_parked();
  });
  EXPECT_EQ(ended.status, 0);
  EXPECT_TRUE(contains(ended.text, "\"main\" is running on its carrier")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "wait_for_ever")) << ended.text;
}

// First of a fiber that never gives way but begins one wait after the other, then of fibers that come and go.
TEST(Dump, IsTakenWhileFibersGoOn) {
  const Ended ended = in_child([] {
    constexpr int kBusy = 3, kAll = 10;
    Rig rig;
    std::atomic<int> taken{0};
    std::thread dumper([&] {
      for (; taken < kAll; ++taken) EXPECT_TRUE(contains(dump::take(rig.runtime().carrier()), "\"main\""));
    });
    const auto begin_waits = [](void*) -> void* {
      for (int i = 0; i < 100; ++i)
        ParkingLot::instance().park(&g_word, kNever, kUninterruptible, {WaitKind::kLock, "sem_wait", &g_word},
                                    [] { return false; });
      return nullptr;
    };
    while (taken < kBusy) begin_waits(nullptr);
    while (taken < kAll) {
      Fiber& fiber = rig.start("short", begin_waits);
      while (!fiber.done()) rig.runtime().carrier().yield();
      fiber.release();
    }
    dumper.join();
    if (testing::Test::HasFailure()) _exit(1);
  });
  EXPECT_EQ(ended.status, 0) << ended.text;
}

TEST(Dump, AsksTheHookForTheHolder) {
  const Ended ended = in_child([] {
    Rig rig;
    dump::hooks.describe_holder = [](const WaitReason& reason, host::TextSink& sink) noexcept {
      if (reason.object == &g_word) sink.write("held by nobody");
    };
    rig.start("locked", &wait_for_ever);
    rig.dump_while_parked();
  });
  EXPECT_TRUE(contains(ended.text, ", held by nobody\n")) << ended.text;
}

TEST(Dump, SignalWritesItOnceThereAreFibers) {
  const Ended ended = in_child([] {
    dump::on_signal(SIGQUIT);
    raise(SIGQUIT);
    Rig rig;
    dump::serve(rig.runtime());
    rig.start("locked", &wait_for_ever);
    rig.runtime().carrier().yield();
    raise(SIGQUIT);
    rig.runtime().carrier().sleep_until(monotonic_now() + 300 * kMillisecond, kUninterruptible, "test");
  });
  EXPECT_TRUE(contains(ended.text, "created no thread yet")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "\"locked\" waits in sem_wait")) << ended.text;
}

// The parent of that process is asked for the child's dump, as `weft dump` does.
TEST(Dump, IsServedToOtherProcesses) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    Rig rig;
    dump::serve(rig.runtime());
    rig.start("locked", &wait_for_ever);
    rig.runtime().carrier().yield();
    EXPECT_EQ(write(ready[1], "x", 1), 1);
    wait_for_ever(nullptr);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  char name[] = "/tmp/weft-dump-test-XXXXXX";
  const int file = mkstemp(name);
  EXPECT_EQ(dump::fetch(child, file), "");
  std::string text(65536, '\0');
  text.resize(static_cast<size_t>(pread(file, text.data(), text.size(), 0)));
  EXPECT_TRUE(contains(text, "\"locked\" waits in sem_wait")) << text;
  unlink(name);
  close(file);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(contains(dump::fetch(child, STDOUT_FILENO), "there is no process"));
}

TEST(Dump, SaysWhyThereIsNone) {
  EXPECT_TRUE(contains(dump::fetch(getpid(), STDOUT_FILENO), "does not run under Weft"));
}

#if !defined(WEFT_ASAN) && !defined(WEFT_TSAN)  // which report crashes themselves

// --- Crashes.

[[gnu::noinline]] void* crash_here(void*) {
  *static_cast<volatile int*>(nullptr) = 1;
  return nullptr;
}

[[gnu::noinline]] int recurse(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  if (g_word != 0) return depth;  // it never is
  return recurse(depth + 1) + frame[0];
}

Ended crash(
    void* (*entry)(void*), void (*before)() = [] {}) {
  return in_child([&] {
    before();
    Rig rig;
    crash::install();
    rig.start("culprit", entry);
    rig.runtime().carrier().yield();
  });
}

TEST(Crash, NamesFiberFunctionAndLibrary) {
  const Ended ended = crash(&crash_here);
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGSEGV) << ended.status;
  EXPECT_TRUE(contains(ended.text, "crashed: SIGSEGV at address 0x0")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "\"culprit\"")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "crash_here")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "dump_test+0x")) << ended.text;
}

TEST(Crash, NamesTheFiberWhoseStackOverflowed) {
  const Ended ended = crash([](void*) -> void* { return reinterpret_cast<void*>(intptr_t{recurse(0)}); });
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGSEGV) << ended.status;
  EXPECT_TRUE(contains(ended.text, "stack overflow in fiber culprit: raise --stack-size")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "  ... the frame above ")) << ended.text;
  EXPECT_LT(count(ended.text, "\n"), 40) << ended.text;
}

TEST(Crash, DiesOfAbort) {
  const Ended ended = crash([](void*) -> void* { abort(); });
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGABRT) << ended.status;
  EXPECT_TRUE(contains(ended.text, "crashed: SIGABRT")) << ended.text;
}

// Recursions through many functions are no rounds, if none is like the one before.
[[gnu::noinline]] int wander(unsigned depth) {
  volatile char frame[64];
  frame[0] = static_cast<char>(depth);
  if (g_word != 0) return 0;
  const unsigned next = depth * 2654435761u + 12345;
  if (next & 0x10000) return wander(next) + frame[0];
  return wander(next) - frame[0];
}

TEST(Crash, ShowsBothEndsOfADeepStack) {
  const Ended ended = crash([](void*) -> void* { return reinterpret_cast<void*>(intptr_t{wander(1)}); });
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGSEGV) << ended.status;
  EXPECT_TRUE(contains(ended.text, " more frames\n")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "ShowsBothEndsOfADeepStack")) << ended.text;
  EXPECT_LT(count(ended.text, "\n"), 60) << ended.text;
}

// A stack that leads nowhere: the report loses its rest, and the process dies all the same.
TEST(Crash, SurvivesABrokenStack) {
  const Ended ended = crash([](void*) -> void* {
    asm volatile("movq $0x1000, %rsp; movq $0x10, %rbp; pushq %rax");
    return nullptr;
  });
  EXPECT_TRUE(WIFSIGNALED(ended.status)) << ended.status;
}

// Repairs the fault by skipping the instruction (movl $1, 0).
void repair(int, siginfo_t*, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RIP] = registers[REG_RBX];
}

TEST(Crash, LeavesFaultsThatTheProgramRepairsToIt) {
  const Ended ended = crash(
      [](void*) -> void* {
        asm volatile("leaq 1f(%%rip), %%rbx; movl $1, 0; 1:" ::: "rbx", "memory");
        write(STDERR_FILENO, "repaired\n", 9);
        return nullptr;
      },
      [] {
        struct sigaction action {};
        action.sa_sigaction = &repair;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, nullptr);
      });
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.text, "repaired\n");
}

// As faulthandler: says something, restores the default action and raises the signal again.
TEST(Crash, ReportsWhatTheProgramsHandlerGivesUp) {
  const Ended ended = crash(&crash_here, [] {
    signal(SIGSEGV, [](int number) {
      write(STDERR_FILENO, "mine\n", 5);
      signal(number, SIG_DFL);
      raise(number);
    });
  });
  EXPECT_TRUE(WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGSEGV) << ended.status;
  EXPECT_EQ(ended.text.find("mine\n"), 0u) << ended.text;
  EXPECT_TRUE(contains(ended.text, "crashed: SIGSEGV at address 0x0")) << ended.text;
  EXPECT_TRUE(contains(ended.text, "crash_here")) << ended.text;
  EXPECT_FALSE(contains(ended.text, "cannot be read")) << ended.text;
}

#endif

}  // namespace
}  // namespace weft::engine
