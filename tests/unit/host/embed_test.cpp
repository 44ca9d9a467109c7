// An interpreter from a library that was loaded later, through its whole life: embed_test LIBPYTHON CHECKS
// [option]... First the life cycle, each part in a child process; then the tests of CHECKS in this
// interpreter.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "embedded.hpp"
#include "fiber/carrier.hpp"
#include "host/gil_preemptor.hpp"
#include "host/python_stack.hpp"

namespace {

using namespace weft::engine;
using namespace weft::engine::host;
using weft::engine::host::testing::c_api;
using weft::engine::host::testing::Gil;
using weft::engine::host::testing::NoGil;
using weft::engine::host::testing::run;

const char* g_library;

#define CHECK(condition) \
  ((condition) ? void()  \
               : (printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition), fflush(stdout), _exit(1)))

GilPreemptor& preemptor() {
  static auto& instance = *new GilPreemptor;
  return instance;
}

struct MainCarrier {
  MainCarrier() { CHECK(carrier.attach()); }
  ~MainCarrier() { carrier.detach(); }
  MonotonicClock clock;
  FutexEventSource events;
  Carrier carrier{clock, events};
};

void initialize() {
  c_api<void(int)>("Py_InitializeEx")(0);
}
void finalize() {
  CHECK(c_api<int()>("Py_FinalizeEx")() == 0);
}

Python& load() {
  CHECK(!Python::present());
  CHECK(!Python::find());
  // Its names become nobody else's: find() must look at the loaded objects.
  CHECK(dlopen(g_library, RTLD_NOW | RTLD_LOCAL));
  Python* python = Python::find();
  CHECK(python && python == Python::present());
  CHECK(python->is_interpreter_object(g_library));
  // For c_api().
  CHECK(dlopen(g_library, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD));
  return *python;
}

void expect_down(Python& python, Carrier& carrier) {
  CHECK(!python.initialized());
  CHECK(!python.usable());
  CHECK(!python.running_fiber_holds_gil());
  CHECK(python.suspend_thread_state() == nullptr);
  CHECK(!preemptor().preempt(carrier));
  ThreadStateInfo info;
  CHECK(!find_thread_state(python, 12345, info));
  static_cast<void>(read_gil_holder(python, info));
}

// Computes on this carrier until another thread has preempted it so often.
void preempt_while_computing(Carrier& carrier, int times) {
  run("stop = []");
  std::thread monitor([&] {
    for (int worked = 0; worked < times;) {
      weft::engine::host::testing::wait_until_held(carrier);
      worked += preemptor().preempt(carrier);
    }
    const Gil gil;
    run("stop.append(1)");
  });
  run("while not stop: pass");
  const NoGil released;
  monitor.join();
}

void before_and_after() {
  Python& python = load();
  const MainCarrier main;
  expect_down(python, *Carrier::current());
  initialize();
  CHECK(python.usable() && python.running_fiber_holds_gil() && python.can_park_with_gil());
  finalize();
  CHECK(python.finalizing());
  expect_down(python, *Carrier::current());
}

// The thread state of the first interpreter's time must not be used in the second's.
void two_lives() {
  Python& python = load();
  const MainCarrier main;
  for (int life = 0; life < 3; ++life) {
    initialize();
    const uint64_t before = preemptor().contentions();
    preempt_while_computing(*Carrier::current(), 5);
    CHECK(preemptor().contentions() > before);
    finalize();
    expect_down(python, *Carrier::current());
  }
}

// The helper is wanting the GIL when the interpreter ends; that must neither hang nor crash.
void ends_during_contention() {
  Python& python = load();
  const MainCarrier main;
  Carrier& carrier = *Carrier::current();
  initialize();
  preempt_while_computing(carrier, 2);
  // This thread holds the GIL and does not come to a check: the helper goes on wanting it.
  std::thread([&carrier] { CHECK(!preemptor().preempt(carrier)); }).join();
  run("import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()");
  std::thread([&carrier] { preemptor().preempt(carrier); }).join();
  finalize();
  expect_down(python, carrier);
  usleep(20'000);  // what is left of the helper may do as it likes meanwhile
}

// As a program ends: the monitor never stops asking.
void asked_until_the_end() {
  load();
  const MainCarrier main;
  Carrier* carrier = Carrier::current();
  initialize();
  std::thread([carrier] {
    for (;;) preemptor().preempt(*carrier);
  }).detach();
  run("import atexit, threading, time\n"
      "def spin(seconds):\n"
      "    end = time.monotonic() + seconds\n"
      "    while time.monotonic() < end: pass\n"
      "class Last:\n"
      "    def __del__(self, spin=spin): spin(0.05)\n"
      "last = Last()\n"
      "atexit.register(spin, 0.05)\n"
      "for i in range(3): threading.Thread(target=spin, args=(60,), daemon=True).start()\n"
      "spin(0.1)");
  for (int i = 0; i < 1000 && preemptor().contentions() == 0; ++i) run("spin(0.01)");  // a busy machine
  CHECK(preemptor().contentions() > 0);
  finalize();
  fflush(stdout);
  exit(0);
}

bool part(const char* name, void (*body)()) {
  const Nanos start = monotonic_now();
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    body();
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("%s %s (%ld ms)\n", status == 0 ? "passed" : "FAILED", name,
         (monotonic_now() - start) / kMillisecond);
  if (status != 0) printf("  wait status 0x%x\n", status);
  return status == 0;
}

int run_checks(int argc, char** argv) {
  Python& python = load();
  printf("testing CPython %s, in %s, embedded\n", python.version_text(), python.object_path());
  void* checks = dlopen(argv[2], RTLD_NOW);
  if (!checks) {
    printf("%s\n", dlerror());
    return 1;
  }
  auto entry = reinterpret_cast<int (*)(int, char**)>(dlsym(checks, "weft_host_checks"));
  initialize();
  int failed;
  {
    const NoGil released;
    failed = entry(argc - 2, argv + 2);
  }
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return fprintf(stderr, "usage: %s LIBPYTHON CHECKS [option]...\n", argv[0]), 2;
  g_library = argv[1];
  bool passed = part("before_and_after", before_and_after);
  passed &= part("two_lives", two_lives);
  passed &= part("ends_during_contention", ends_during_contention);
  for (int i = 0; i < 5; ++i) passed &= part("asked_until_the_end", asked_until_the_end);
  return run_checks(argc, argv) == 0 && passed ? 0 : 1;
}
