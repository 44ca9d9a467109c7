#include "runtime/crash.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <ctime>

#include "fiber/carrier.hpp"
#include "fiber/context.hpp"
#include "fiber/stack_pool.hpp"
#include "fiber/sys.hpp"
#include "host/python.hpp"
#include "host/python_stack.hpp"
#include "host/safe_memory.hpp"
#include "host/thread_name.hpp"
#include "host/thread_states.hpp"
#include "runtime/brief_stack.hpp"
#include "runtime/dump_stack.hpp"
#include "runtime/dump_symbols.hpp"

namespace weft::engine::crash {

namespace {

struct Known {
  int number;
  const char* name;
};
constexpr Known kSignals[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGFPE, "SIGFPE"}, {SIGABRT, "SIGABRT"}};

constexpr size_t kSignalStack = 64 * 1024, kReportStack = 256 * 1024;
// A stack of 8 MiB with frames of 64 bytes. Pages of this are touched when they are needed.
constexpr size_t kMaxFrames = 128 * 1024;
constexpr time_t kStagePatience = 5;  // seconds

enum Stage : int { kHeadline, kPython, kWalk, kNative, kEnd };

// One report at a time, and at most one in a process that dies of it.
struct Report {
  std::atomic<int> thread{0};  // who writes it
  int stage = kHeadline;
  int signal = 0;
  bool cut = false;  // what is left of a stage could not be done
  siginfo_t info{};
  dump::StackContext context;
};

constinit Report g_report;
constinit struct sigaction g_former[NSIG];
constinit std::byte* g_report_stack = nullptr;
constinit dump::Symbols g_symbols;
constinit dump::Frame g_frames[kMaxFrames];

void handle(int signal, siginfo_t* info, void* context);
void set_handler(int signal, const sigset_t& others) noexcept;

// --- Text, without printf.

void put(host::TextSink& sink, std::string_view text) noexcept {
  sink.write(text);
}

void put(host::TextSink& sink, uint64_t number, int base = 10) noexcept {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, number, base).ptr;
  if (base == 16) sink.write("0x");
  sink.write({digits, static_cast<size_t>(end - digits)});
}

// 2,340
void put_count(host::TextSink& sink, uint64_t number) noexcept {
  if (number >= 1000) {
    put_count(sink, number / 1000);
    put(sink, number % 1000 < 10 ? ",00" : number % 1000 < 100 ? ",0" : ",");
    number %= 1000;
  }
  put(sink, number);
}

void put_cut(host::TextSink& sink) noexcept {
  put(sink, "  (the rest cannot be read)\n");
  g_report.cut = false;
}

// Part of libstdc++.a, and of no shared libstdc++. Unlike __cxa_demangle, it allocates nothing but stack:
// some 70 bytes for each of the name's.
extern "C" [[gnu::weak]] int __gcclibcxx_demangle_callback(const char* mangled,
                                                           void (*callback)(const char*, size_t, void*),
                                                           void* argument);

void put_function(host::TextSink& sink, std::string_view symbol) noexcept {
  char name[512], plain[1024];
  host::BufferSink buffer(plain, sizeof plain);
  if (__gcclibcxx_demangle_callback && symbol.starts_with("_Z") && symbol.size() < sizeof name) {
    memcpy(name, symbol.data(), symbol.size());
    name[symbol.size()] = '\0';
    const auto write = [](const char* text, size_t size, void* to) {
      static_cast<host::BufferSink*>(to)->write({text, size});
    };
    if (__gcclibcxx_demangle_callback(name, write, &buffer) == 0) symbol = {plain, buffer.size()};
  }
  put(sink, symbol);
}

void put_place(host::TextSink& sink, uintptr_t address) noexcept {
  const dump::Symbol symbol = g_symbols.find(address);
  if (symbol.object.empty()) {
    put(sink, address, 16);
    put(sink, " in no library");
    return;
  }
  if (!symbol.function.empty()) {
    put_function(sink, symbol.function);
    put(sink, "+");
    put(sink, symbol.function_offset, 16);
    put(sink, " in ");
  }
  put(sink, symbol.object);
  put(sink, "+");
  put(sink, symbol.object_offset, 16);
}

const char* name_of(int signal) noexcept {
  for (const Known& known : kSignals)
    if (known.number == signal) return known.name;
  return "a signal";
}

// --- What is reported.

// A call of a bad pointer: what made the call stands on the stack, and is where the walk must begin.
void step_out_of_bad_code(dump::StackContext& context) noexcept {
  unsigned char byte;
  uint64_t caller;
  if (host::read_memory(context.rip, byte) || !host::read_memory(context.rsp, caller)) return;
  context.rip = caller - 1;
  context.rsp += sizeof caller;
}

void write_headline(host::TextSink& sink, Fiber* fiber) noexcept {
  const siginfo_t& info = g_report.info;
  const bool fault = info.si_code > 0 && g_report.signal != SIGABRT;
  put(sink, "\nweft: process ");
  put(sink, static_cast<uint64_t>(sys::call(SYS_getpid)));
  put(sink, " crashed: ");
  put(sink, name_of(g_report.signal));
  if (fault) {
    put(sink, " at address ");
    put(sink, reinterpret_cast<uintptr_t>(info.si_addr), 16);
  }
  put(sink, "\n");
  if (fiber && fault && StackPool::instance().is_guard(info.si_addr)) {
    put(sink, "stack overflow in fiber ");
    if (const Fiber::Name name = fiber->name(); name[0])
      put(sink, name.data());
    else
      put(sink, fiber->id());
    put(sink, ": raise --stack-size (its stack has ");
    put(sink, fiber->stack().size() / 1024);
    put(sink, " KiB)\n");
  }
  if (fiber) {
    put(sink, "in fiber ");
    put(sink, fiber->id());
    if (const Fiber::Name name = fiber->name(); name[0]) {
      put(sink, " \"");
      put(sink, name.data());
      put(sink, "\"");
    }
    put(sink, " on OS thread ");
  } else {
    char name[16] = {};
    sys::call(SYS_prctl, PR_GET_NAME, name);
    put(sink, "outside any fiber, in \"");
    put(sink, name);
    put(sink, "\", OS thread ");
  }
  put(sink, static_cast<uint64_t>(sys::thread_id()));
  put(sink, "\nat ");
  put_place(sink, g_report.context.rip);
  put(sink, "\n");
}

void write_python(host::TextSink& sink, Fiber* fiber) noexcept {
  const host::Python* python = host::Python::present();
  if (!python) return;
  host::ThreadStateInfo thread;
  if (fiber ? !host::find_thread_state(*python, *fiber, thread)
            : !host::find_thread_state(*python, static_cast<uint64_t>(pthread_self()), thread))
    return;
  char name[128];
  host::BufferSink name_sink(name, sizeof name);
  host::write_thread_name(*python, thread, name_sink);
  put(sink, "Python stack");
  if (name[0]) {
    put(sink, " of thread \"");
    put(sink, name);
    put(sink, "\"");
  }
  put(sink, ", innermost first:\n");
  if (host::write_python_stack(*python, thread, sink, host::kBriefPythonStack) == 0) put(sink, "  (none)\n");
}

// If it does not come to an end, what it has found so far can still be told.
void walk_native() noexcept {
  dump::StackContext start = g_report.context;
  step_out_of_bad_code(start);
  dump::walk_stack(start, g_frames, kMaxFrames);
}

void write_native(host::TextSink& sink) noexcept {
  using Item = dump::BriefStack::Item;
  put(sink, "native stack, innermost first:\n");
  size_t count = 0;
  while (count < kMaxFrames && g_frames[count].address != 0) ++count;
  dump::BriefStack stack(g_frames, count);
  for (Item item; stack.next(item);) {
    put(sink, "  ");
    if (item.kind == Item::Kind::kFrame) {
      put_place(sink, g_frames[item.index].address);
    } else if (item.kind == Item::Kind::kSkipped) {
      put(sink, "... ");
      put_count(sink, item.frames);
      put(sink, " more frames");
    } else {
      put(sink, "... the ");
      if (item.frames > 1) put(sink, item.frames);
      put(sink, item.frames > 1 ? " frames above " : "frame above ");
      put_count(sink, item.times);
      put(sink, item.times > 1 ? " more times" : " more time");
    }
    put(sink, "\n");
  }
  if (count == kMaxFrames) put(sink, "  ...\n");
}

// --- When.

// Sends this thread the signal again when a stage takes too long.
void arm_watchdog() noexcept {
  static constinit int timer = -1;
  if (timer < 0) {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = g_report.signal;
    event._sigev_un._tid = sys::thread_id();
    if (sys::call(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) < 0) return;
  }
  const itimerspec when{{0, 0}, {kStagePatience, 0}};
  sys::call(SYS_timer_settime, timer, 0, &when, nullptr);
}

// Goes through the stages that are left. A stage that faults comes back here, through the handler, for the
// rest.
void write_report() noexcept {
  Fiber* fiber = Carrier::running_fiber();
  while (g_report.stage < kEnd) {
    const int stage = g_report.stage++;
    arm_watchdog();
    host::FdSink sink(2);
    if (stage == kHeadline)
      write_headline(sink, fiber);
    else if (stage == kPython)
      write_python(sink, fiber);
    else if (stage == kWalk)
      walk_native();
    else
      write_native(sink);
    if (g_report.cut && stage != kWalk) put_cut(sink);
  }
}

void on_report_stack() noexcept {
#ifdef WEFT_ASAN
  write_report();  // AddressSanitizer does not know that stack
#else
  const auto* here = static_cast<std::byte*>(__builtin_frame_address(0));
  // A fault of the report on a thread without a signal stack is handled where it happened.
  if (!g_report_stack || (here >= g_report_stack && here < g_report_stack + kReportStack)) {
    write_report();
    return;
  }
  static constinit fcontext_t handler = nullptr;
  const fcontext_t report = make_fcontext(g_report_stack + kReportStack, kReportStack, [](transfer_t) {
    write_report();
    fcontext_t unused;
    weft_switch_stack(handler, &unused);
  });
  weft_switch_stack(report, &handler);
#endif
}

void set_mask(int how, int signal) noexcept {
  const uint64_t mask = uint64_t{1} << (signal - 1);
  sys::call(SYS_rt_sigprocmask, how, &mask, nullptr, sizeof mask);
}

// The default action, and the signal once more: pending until the handler returns, so that the core file
// shows the place of the crash.
void die(bool at_once) noexcept {
  const int signal = g_report.signal;
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  set_mask(SIG_BLOCK, signal);
  sys::call(SYS_rt_tgsigqueueinfo, sys::call(SYS_getpid), sys::thread_id(), signal, &g_report.info);
  if (at_once) set_mask(SIG_UNBLOCK, signal);
}

bool is_function(const struct sigaction& action) noexcept {
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

// Lets the program's own handler try. True if there is nothing to report.
bool handled_by_program(int signal, siginfo_t* info, void* context) noexcept {
  const struct sigaction former = g_former[signal];
  if (!is_function(former)) return false;
  if (former.sa_flags & SA_SIGINFO)
    former.sa_sigaction(signal, info, context);
  else
    former.sa_handler(signal);
  struct sigaction now {};
  uint64_t pending = 0;
  sigaction(signal, nullptr, &now);
  sys::call(SYS_rt_sigpending, &pending, sizeof pending);
  const bool gives_up = !is_function(now) || (pending & (uint64_t{1} << (signal - 1)));
  return !gives_up;
}

void handle(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const int thread = sys::thread_id();
  if (g_report.thread.load() == thread) {
    // The report itself has failed. What it was called for is lost, but it can still say the rest.
    set_mask(SIG_UNBLOCK, signal);
    g_report.cut = true;
    if (g_report.stage != kWalk + 1) {
      host::FdSink sink(2);
      put_cut(sink);
    }
    on_report_stack();
    die(true);
    return;
  }
  if (handled_by_program(signal, info, context)) {
    errno = error;
    return;
  }
  for (int nobody = 0; !g_report.thread.compare_exchange_strong(nobody, thread); nobody = 0) {
    // Another thread crashed as well, and will end the process.
    const sys::Timespec pause{60, 0};
    sys::call(SYS_nanosleep, &pause, nullptr);
  }
  NoSwitchScope blocking;
  g_report.signal = signal;
  g_report.info = *info;
  g_report.context = dump::StackContext::of_signal(context);
  // A fault of the report itself must come back here, and nothing else: not what the program's handler
  // raised.
  set_handler(signal, g_former[signal].sa_mask);
  const uint64_t mask = uint64_t{1} << (signal - 1);
  const sys::Timespec now{0, 0};
  sys::call(SYS_rt_sigtimedwait, &mask, nullptr, &now, sizeof mask);
  set_mask(SIG_UNBLOCK, signal);
  on_report_stack();
  die(false);
}

void set_handler(int signal, const sigset_t& others) noexcept {
  struct sigaction action {};
  action.sa_mask = others;
  sigaddset(&action.sa_mask, signal);
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  action.sa_sigaction = &handle;
  sigaction(signal, &action, nullptr);
}

void give_signal_stack() noexcept {
  stack_t present{};
  if (sigaltstack(nullptr, &present) != 0 || !(present.ss_flags & SS_DISABLE)) return;
  void* memory = mmap(nullptr, kSignalStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  const stack_t stack{memory, 0, kSignalStack};
  sigaltstack(&stack, nullptr);
}

}  // namespace

void install() noexcept {
  give_signal_stack();
  if (g_report_stack) return;
  void* memory = mmap(nullptr, kReportStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) g_report_stack = static_cast<std::byte*>(memory);
  dump::prepare_stack_walk();
  for (const Known& known : kSignals) {
    struct sigaction& former = g_former[known.number];
    if (sigaction(known.number, nullptr, &former) == 0) set_handler(known.number, former.sa_mask);
  }
}

}  // namespace weft::engine::crash
