// Python stacks read from outside must be what Python itself says of them.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "embedded.hpp"
#include "host/python_stack.hpp"
#include "host/python_text.hpp"
#include "host/safe_memory.hpp"
#include "host/thread_name.hpp"

namespace weft::engine::host {
namespace {

using testing::evaluate;
using testing::Gil;
using testing::run;

class StringSink final : public TextSink {
 public:
  void write(std::string_view piece) noexcept override { text += piece; }
  std::string text;
};

class PythonStackTest : public ::testing::Test {
 protected:
  // `self.wait()` blocks until the test is over. expected() is the stack as Python tells it.
  void SetUp() override {
    const Gil gil;
    run(R"(
import sys, threading
class Stage:
    def __init__(self):
        self.arrived, self.finish = threading.Lock(), threading.Lock()
        self.arrived.acquire(), self.finish.acquire()
    def wait(self):
        self.arrived.release()
        self.finish.acquire()
    def start(self, target):
        self.thread = threading.Thread(target=target, args=(self,))
        self.thread.start()
        self.arrived.acquire()
    def end(self):
        self.finish.release()
        self.thread.join()
    def frames(self):
        frame = sys._current_frames()[self.thread.ident]
        while frame:
            yield frame
            frame = frame.f_back
    def expected(self):
        return ''.join(f'  File "{f.f_code.co_filename}", line {f.f_lineno} in {f.f_code.co_qualname}\n'
                       for f in self.frames())
stage = Stage()
)");
  }

  ThreadStateInfo thread_of_stage() {
    ThreadStateInfo info;
    uint64_t ident;
    {
      const Gil gil;
      ident = std::stoull(evaluate("stage.thread.ident"));
    }
    EXPECT_TRUE(find_thread_state(python_, ident, info));
    EXPECT_EQ(info.thread_id, ident);
    return info;
  }

  // Runs `act` of `program`, compiled as `filename`, until it waits, and compares.
  void compare(const std::string& program, const std::string& filename = "program.py") {
    std::string expected;
    {
      const Gil gil;
      run("names = {}\nexec(compile('''" + program + "''', '" + filename + "', 'exec'), names)");
      run("stage.start(names['act'])");
      expected = evaluate("stage.expected()");
    }
    const ThreadStateInfo info = thread_of_stage();
    StringSink sink;
    const int frames = write_python_stack(python_, info, sink, {.first = 10'000});
    EXPECT_EQ(sink.text, expected);
    EXPECT_EQ(frames, std::count(expected.begin(), expected.end(), '\n'));
    const Gil gil;
    run("stage.end()");
  }

  // Starts a thread made by `make`, an expression, has `then` run, and returns the name that is found.
  std::string name_of(const std::string& make, const std::string& then = "pass") {
    {
      const Gil gil;
      run("import threading\nstage.thread = " + make + "\nstage.thread.start()\nstage.arrived.acquire()\n" +
          then);
    }
    const ThreadStateInfo info = thread_of_stage();
    StringSink sink;
    write_thread_name(python_, info, sink);
    const Gil gil;
    run("stage.end()");
    return sink.text;
  }

  Python& python_ = *Python::find();
};

TEST_F(PythonStackTest, NamesOfThreads) {
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait, name='worker-1')"), "worker-1");
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait, name='gr\u00fc\u00dfe \u4e16')"), "grüße 世");
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait)", "stage.thread.name = 'renamed'"), "renamed");
  EXPECT_TRUE(name_of("threading.Thread(target=stage.wait)").starts_with("Thread-"));
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait, name='x' * 1000)"), std::string(100, 'x') + "...");
}

TEST_F(PythonStackTest, NamesOfThreadsWhoseAttributesStandElsewhere) {
  // Asked for, the dictionary comes to be.
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait, name='a')", "vars(stage.thread)"), "a");
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait, name='b')", "vars(stage.thread)[1] = 2"), "b");
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait, name='c')",
                    "stage.thread.__dict__ = dict(vars(stage.thread))"),
            "c");
  EXPECT_EQ(name_of("threading.Thread(target=stage.wait, name='d')",
                    "for i in range(100): setattr(stage.thread, f'more{i}', i)"),
            "d");
  EXPECT_EQ(name_of("type('Sub', (threading.Thread,), {'run': lambda self: stage.wait()})(name='e')"), "e");
  EXPECT_EQ(name_of("threading.Timer(0, stage.wait)", "stage.thread.name = 'f'"), "f");
}

TEST_F(PythonStackTest, NoNameWithoutOne) {
  EXPECT_EQ(name_of("type('Odd', (threading.Thread,), {})(target=stage.wait)", "stage.thread._name = 1"), "");
  ThreadStateInfo nothing;
  StringSink sink;
  write_thread_name(python_, nothing, sink);
  nothing.frame = 16;
  write_thread_name(python_, nothing, sink);
  nothing.frame = reinterpret_cast<uintptr_t>(&nothing);
  write_thread_name(python_, nothing, sink);
  EXPECT_EQ(sink.text, "");
}

TEST_F(PythonStackTest, OfNestedCalls) {
  compare(R"(
def inner(stage):
    x = 1
    stage.wait()

def act(stage):
    if True:
        inner(
            stage
        )
)");
}

TEST_F(PythonStackTest, OfGeneratorsComprehensionsAndClasses) {
  compare(R"(
class Outer:
    class Inner:
        def method(self, stage):
            return [value for value in self.generate(stage)]
        def generate(self, stage):
            yield 1
            yield from self.deeper(stage)
        def deeper(self, stage):
            (lambda: stage.wait())()
            yield 2

def act(stage):
    def local():
        class Body:
            value = Outer.Inner().method(stage)
    local()
)");
}

TEST_F(PythonStackTest, AcrossCCode) {
  compare(R"(
import functools
def key(stage, value):
    exec('stage.wait()')
    return value
def act(stage):
    sorted([1], key=functools.partial(key, stage))
)");
}

TEST_F(PythonStackTest, OfCoroutinesAndHandlers) {
  compare(R"(
class Awaitable:
    def __await__(self):
        yield
async def innermost(stage):
    try:
        raise ValueError
    except ValueError:
        with open('/dev/null') as file:
            stage.wait()
async def outer(stage):
    await innermost(stage)
def act(stage):
    try:
        outer(stage).send(None)
    except StopIteration:
        pass
)");
}

TEST_F(PythonStackTest, WithLinesFarApart) {
  const std::string gap(3000, '\n');
  compare("def deep(stage):\n    x = 1" + gap + "    y = (x +" + gap + "      (stage.wait() or 1))\n" + gap +
          "def act(stage):" + gap + "    for i in range(1):\n        deep(stage)\n");
}

TEST_F(PythonStackTest, WithNamesInAnyScript) {
  compare(
      "def größe(stage):\n    stage.wait()\ndef функция(stage):\n    größe(stage)\ndef act(stage):\n    "
      "функция(stage)\n",
      "/tmp/naïve.py");
  compare("def 𝒻(stage):\n    stage.wait()\ndef act(stage):\n    𝒻(stage)\n", "/tmp/данные 𝒳.py");
}

TEST_F(PythonStackTest, OfDeepRecursion) {
  compare(R"(
def act(stage, depth=500):
    if depth:
        act(stage, depth - 1)
    else:
        stage.wait()
)");
}

TEST_F(PythonStackTest, IsCutAtTheLimit) {
  {
    const Gil gil;
    run("def act(stage, depth=50):\n    act(stage, depth - 1) if depth else stage.wait()\nstage.start(act)");
  }
  StringSink sink;
  EXPECT_GT(write_python_stack(python_, thread_of_stage(), sink, {.first = 10}), 50);
  EXPECT_EQ(std::count(sink.text.begin(), sink.text.end(), '\n'), 11);
  EXPECT_TRUE(sink.text.ends_with("\n  ...\n"));
  const Gil gil;
  run("stage.end()");
}

TEST_F(PythonStackTest, InBriefHasFirstAndLastFramesAndFoldsRecursion) {
  {
    const Gil gil;
    run(R"(
def even(stage, depth):
    odd(stage, depth - 1) if depth else stage.wait()
def odd(stage, depth):
    even(stage, depth - 1)
def same(stage, depth):
    same(stage, depth - 1) if depth else even(stage, 200)
def act(stage):
    same(stage, 50)
stage.start(act)
)");
  }
  StringSink sink;
  const int frames = write_python_stack(python_, thread_of_stage(), sink, {30, 8, true});
  EXPECT_GE(frames, 254);
  EXPECT_EQ(std::count(sink.text.begin(), sink.text.end(), '\n'), 30 + 1 + 8 + 1) << sink.text;
  EXPECT_NE(sink.text.find(" in same\n  ... the frame above 49 more times\n"), sink.text.npos) << sink.text;
  EXPECT_NE(sink.text.find(" more frames\n"), sink.text.npos) << sink.text;
  EXPECT_NE(sink.text.find(" in act\n"), sink.text.npos) << sink.text;
  const Gil gil;
  run("stage.end()");
}

TEST_F(PythonStackTest, InnermostFrameInAWord) {
  std::string expected;
  {
    const Gil gil;
    run("exec(compile('def act(stage):\\n\\n  stage.finish.acquire()', '/srv/app.py', 'exec'))");
    // Not through Stage.wait: the innermost frame is the program's.
    run("stage.thread = threading.Thread(target=act, args=(stage,)); stage.thread.start()\n"
        "while not any(f.f_lineno == 3 for f in stage.frames() if f.f_code.co_name == 'act'): pass");
  }
  const ThreadStateInfo info = thread_of_stage();
  char text[100];
  EXPECT_EQ(describe_python_frame(python_, info, text, sizeof text), strlen("/srv/app.py:3 in act"));
  EXPECT_STREQ(text, "/srv/app.py:3 in act");
  EXPECT_EQ(describe_python_frame(python_, info, text, 5), 4u);
  EXPECT_STREQ(text, "/srv");
  const Gil gil;
  run("stage.end()");
}

TEST_F(PythonStackTest, OfAThreadThatRunsNoPython) {
  std::atomic<int> step{0};
  uint64_t ident = 0;
  std::thread thread([&] {
    const Gil gil;
    const testing::NoGil released;
    ident = pthread_self();
    step.store(1);
    step.notify_one();
    step.wait(1);
  });
  step.wait(0);
  ThreadStateInfo info;
  ASSERT_TRUE(find_thread_state(python_, ident, info));
  StringSink sink;
  EXPECT_EQ(write_python_stack(python_, info, sink), 0);
  EXPECT_EQ(sink.text, "");
  char text[8];
  EXPECT_EQ(describe_python_frame(python_, info, text, sizeof text), 0u);
  step.store(2);
  step.notify_one();
  thread.join();
  EXPECT_FALSE(find_thread_state(python_, 0x1234, info));
}

TEST_F(PythonStackTest, ControlCharactersAreNotWritten) {
  {
    const Gil gil;
    run("exec(compile('def act(stage):\\n  stage.wait()', 'a\\x1b[2J\\n\\ud800b', 'exec')); "
        "stage.start(act)");
  }
  StringSink sink;
  write_python_stack(python_, thread_of_stage(), sink);
  EXPECT_NE(sink.text.find("\"a?[2J??b\", line 2 in act"), std::string::npos) << sink.text;
  const Gil gil;
  run("stage.end()");
}

TEST_F(PythonStackTest, WildPointersDoNoHarm) {
  StringSink sink;
  ThreadStateInfo info;
  for (const uintptr_t wild :
       {uintptr_t{0}, uintptr_t{1}, uintptr_t{0xdeadbeef}, ~uintptr_t{0}, reinterpret_cast<uintptr_t>(&info),
        reinterpret_cast<uintptr_t>(&pthread_self)}) {
    info.frame = wild;
    EXPECT_EQ(write_python_stack(python_, info, sink), 0);
    read_thread_state(python_, wild, info);
  }
}

// As a list may look while it is changed. It took 4,000,000 steps once, or ten seconds.
TEST_F(PythonStackTest, AListThatRunsInACircleEnds) {
  const Gil gil;  // nobody else looks at the list
  const Layout& layout = *python_.layout();
  const auto interpreter = reinterpret_cast<uintptr_t>(python_.api().interpreter_head());
  const auto first = *reinterpret_cast<uintptr_t*>(interpreter + layout.interpreter_threads);
  auto& next = *reinterpret_cast<uintptr_t*>(first + layout.state_next);
  const uintptr_t former = std::exchange(next, first);
  int steps = 0;
  ThreadStateInfo info;
  for (ThreadStateCursor cursor(python_); cursor.next(info);) ++steps;
  next = former;
  EXPECT_GE(steps, 1);
  EXPECT_LT(steps, 100);
}

// As in a crash: on a small stack, in the middle of the interpreter.
TEST_F(PythonStackTest, FromASignalHandler) {
  static char report[4096];
  static char stack[16 * 1024];
  const stack_t alternate{.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof stack};
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  ASSERT_EQ(sigaltstack(&alternate, nullptr), 0);
  struct sigaction action = {}, former;
  action.sa_flags = SA_ONSTACK;
  action.sa_handler = [](int) {
    ThreadStateInfo info;
    BufferSink sink(report, sizeof report);
    if (find_thread_state(*Python::present(), pthread_self(), info))
      write_python_stack(*Python::present(), info, sink);
  };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &former), 0);
  {
    const Gil gil;
    run("exec(compile('import signal\\ndef crash():\\n  signal.raise_signal(signal.SIGUSR1)\\ncrash()', "
        "'bad.py', 'exec'))");
  }
  EXPECT_EQ(
      std::string(report).find("  File \"bad.py\", line 3 in crash\n  File \"bad.py\", line 4 in <module>\n"),
      0u)
      << report;
  sigaction(SIGUSR1, &former, nullptr);
  sigaltstack(&none, nullptr);
}

// A dump shows running threads too; whatever it reads must not crash it.
TEST_F(PythonStackTest, OfRunningThreadsCanBeReadAtAnyMoment) {
  {
    const Gil gil;
    run(R"(
stop = []
def churn(depth):
    def made_here(): return [i for i in (x for x in range(3))]
    exec(f'def f{depth}(n): return n if n == 0 else f{depth}(n - 1)\nf{depth}(20)', {})
    return made_here() if depth == 0 else churn(depth - 1)
def loop():
    while not stop: churn(30); threading.Thread(target=lambda: None).start()
workers = [threading.Thread(target=loop) for _ in range(3)]
for worker in workers: worker.start()
)");
  }
  const Nanos end = monotonic_now() + 500 * kMillisecond;
  long frames = 0;
  while (monotonic_now() < end) {
    ThreadStateCursor cursor(python_);
    ThreadStateInfo info;
    StringSink sink;
    while (cursor.next(info)) frames += write_python_stack(python_, info, sink);
  }
  EXPECT_GT(frames, 100);
  const Gil gil;
  run("stop.append(1)\nfor worker in workers: worker.join()");
}

TEST_F(PythonStackTest, TheHolderOfTheGilIsSeenFromOutside) {
  ThreadStateInfo info;
  EXPECT_EQ(read_gil_holder(python_, info), GilHolder::kNobody);
  const Gil gil;
  const uint64_t me = pthread_self();
  std::thread([this, me] {
    ThreadStateInfo holder;
    ASSERT_EQ(read_gil_holder(python_, holder), GilHolder::kSomebody);
    EXPECT_EQ(holder.thread_id, me);
  }).join();
}

std::string g_own_frames;

extern "C" int record_own_frames() {
  const Python& python = *Python::present();
  PythonFrame frames[32];
  const size_t count = read_own_python_frames(python, frames, 32);
  for (size_t i = 0; i < count && i < 5; ++i) {
    const std::string_view file = own_ascii_text(*python.layout(), frames[i].filename);
    const std::string_view name = own_ascii_text(*python.layout(), frames[i].name);
    g_own_frames += std::string(frames[i].outer_loop ? "| " : "") + std::string(file) + ":" +
                    std::to_string(frames[i].line) + " " + std::string(name) + "\n";
  }
  return 0;
}

TEST(OwnPythonStack, FramesAndTheirLoops) {
  const Gil gil;
  g_own_frames.clear();
  run("import ctypes\n"
      "record = ctypes.PYFUNCTYPE(ctypes.c_int)(" +
      std::to_string(reinterpret_cast<uintptr_t>(&record_own_frames)) + ")\n" + R"(
exec(compile("""
def inner():
    return record()
def middle():
    return (
        inner())
def outer():
    return list(map(lambda _: middle(), [1]))
outer()
""", "own.py", "exec"), {"record": record})
)");
  EXPECT_EQ(g_own_frames,
            "own.py:3 inner\n"
            "own.py:6 middle\n"
            "own.py:8 outer.<locals>.<lambda>\n"
            "| own.py:8 outer\n"
            "own.py:9 <module>\n");
}

}  // namespace
}  // namespace weft::engine::host
