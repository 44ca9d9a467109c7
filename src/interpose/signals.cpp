// Signals: handlers run where the kernel delivers them, on the stack of whatever fiber runs; what they would
// have interrupted natively, a wait of the main thread, is interrupted by way of the scheduler.
//
// The kernel is given a trampoline, which marks the thread as inside a handler, so that routed calls made
// there go straight to libc and nothing switches, and tells the carrier afterwards. The program sees the
// handlers that it installed.
#include "interpose/signals.hpp"

#include <ucontext.h>

#include <atomic>
#include <bit>

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/support.hpp"
#include "runtime/dump.hpp"
#include "runtime/runtime.hpp"

namespace weft::engine::interpose {

namespace {

using SimpleHandler = void (*)(int);
using InfoHandler = void (*)(int, siginfo_t*, void*);

// What the program has installed for a signal. Read by handlers on any thread while another may be changing
// it: the two words a handler needs are atomic, the rest is only for sigaction()'s `old`.
struct Action {
  std::atomic<void*> handler{nullptr};  // null: the kernel has the program's own disposition
  std::atomic<int> flags{0};
  sigset_t mask{};
};
constinit Action g_actions[kSignalLimit];
constinit FutexLock g_lock;

// What the attention hook has to do. For a fiber: its notes say what, and it is on a list, once. For whoever
// would take a signal: the signals whose handlers ran, those with SA_RESTART apart.
constexpr uint8_t kListed = 1, kInterrupting = 2, kRestarting = 4;
constinit std::atomic<Fiber*> g_noted{nullptr};
constinit std::atomic<uint64_t> g_interrupting{0}, g_restarting{0};
// The fiber that a signal on its way was sent to.
constinit std::atomic<Fiber*> g_directed[kSignalLimit];
constinit std::atomic<unsigned> g_handlers_run{0};

// Async-signal-safe: a fiber is pushed by whoever lists it.
void note(Fiber& fiber, uint8_t what) noexcept {
  if (!(fiber.signals.notes.fetch_or(what | kListed) & kListed)) {
    Fiber* head = g_noted.load();
    do fiber.signals.next_noted = head;
    while (!g_noted.compare_exchange_weak(head, &fiber));
  }
  fiber.carrier().request_attention();
}

// The engine's own code: the linker knows where it begins and ends.
extern "C" {
[[gnu::visibility("hidden")]] extern const char __ehdr_start[];
[[gnu::visibility("hidden")]] extern const char etext[];
}

bool is_engine_code(uintptr_t address) noexcept {
  return address - reinterpret_cast<uintptr_t>(__ehdr_start) <
         reinterpret_cast<uintptr_t>(etext) - reinterpret_cast<uintptr_t>(__ehdr_start);
}

// Whom the kernel would have interrupted: the main thread, unless that blocks the signal.
Fiber* taker_of(Carrier& carrier, uint64_t bit) noexcept {
  for (Fiber* fiber : {&carrier.main_fiber(), &carrier.running()})
    if (!(signal_mask_of(*fiber) & bit)) return fiber;
  return nullptr;
}

// A handler has run: has somebody's wait to end? One that began after it has not.
void note_handler_run(Carrier& carrier, int number, bool restart, bool in_engine) noexcept {
  g_handlers_run.fetch_add(1, std::memory_order_relaxed);
  Fiber* concerned = g_directed[number].exchange(nullptr);
  if (!concerned) concerned = taker_of(carrier, signal_bit(number));
  if (!concerned) {
    (restart ? g_restarting : g_interrupting).fetch_or(signal_bit(number));
    carrier.request_attention();
    return;
  }
  const bool at_work = concerned == &carrier.running() && concerned->state() == Fiber::State::kRunning;
  if (in_engine || !at_work) note(*concerned, restart ? kRestarting : kInterrupting);
}

void trampoline(int number, siginfo_t* info, void* context) {
  const auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  ThreadState& thread = thread_state();
  HandlerFrame frame{thread.handler, __builtin_frame_address(0), reinterpret_cast<void*>(registers[REG_RSP]),
                     is_engine_code(static_cast<uintptr_t>(registers[REG_RIP]))};
  thread.handler = &frame;
  ++thread.no_switch;
  Action& action = g_actions[number];
  const int flags = action.flags.load(std::memory_order_acquire);
  void* handler = action.handler.load(std::memory_order_acquire);
  if (flags & SA_RESETHAND) action.handler.store(nullptr, std::memory_order_relaxed);
  if (handler && (flags & SA_SIGINFO))
    reinterpret_cast<InfoHandler>(handler)(number, info, context);
  else if (handler)
    reinterpret_cast<SimpleHandler>(handler)(number);
  --thread.no_switch;
  thread.handler = frame.outer;
  // On a native thread the kernel itself interrupts what it waits for.
  if (thread.carrier) note_handler_run(*thread.carrier, number, flags & SA_RESTART, frame.in_engine);
}

// A handler of the program's: that of --dump-signal interrupts nobody.
bool is_function(const struct sigaction& action) noexcept {
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN && !dump::is_handler(action);
}

bool is_trampoline(const struct sigaction& action) noexcept {
  return (action.sa_flags & SA_SIGINFO) && action.sa_sigaction == &trampoline;
}

// Gives the kernel the trampoline for `action`, a function of the program's. REQUIRES: g_lock is held.
int install_wrapped(int number, const struct sigaction& action) noexcept {
  Action& ours = g_actions[number];
  struct sigaction wrapped = action;
  wrapped.sa_flags |= SA_SIGINFO;
  wrapped.sa_sigaction = &trampoline;
  void* const former_handler = ours.handler.load();
  const int former_flags = ours.flags.load();
  ours.flags.store(action.sa_flags, std::memory_order_release);
  ours.handler.store(reinterpret_cast<void*>(action.sa_handler), std::memory_order_release);
  if (real::sigaction(number, &wrapped, nullptr) == 0) {
    ours.mask = action.sa_mask;
    return 0;
  }
  ours.handler.store(former_handler);
  ours.flags.store(former_flags);
  return -1;
}

// Signals as the program sees them. Blocks all signals while it holds the lock, which a handler may want as
// well.
class ActionsScope {
 public:
  ActionsScope() noexcept {
    const uint64_t all = ~uint64_t{0};
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &former_, sizeof all);
    g_lock.lock();
  }
  ~ActionsScope() {
    g_lock.unlock();
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &former_, nullptr, sizeof former_);
  }
  ActionsScope(const ActionsScope&) = delete;
  ActionsScope& operator=(const ActionsScope&) = delete;

 private:
  uint64_t former_ = 0;
};

sighandler_t install_simple(int number, sighandler_t handler, int flags) noexcept {
  struct sigaction action {
  }, former{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (!(flags & SA_NODEFER)) sigaddset(&action.sa_mask, number);
  return routed::sigaction(number, &action, &former) == 0 ? former.sa_handler : SIG_ERR;
}

}  // namespace

unsigned handlers_run() noexcept {
  return g_handlers_run.load(std::memory_order_relaxed);
}

void interrupt_soon(Fiber& fiber) noexcept {
  note(fiber, kInterrupting);
}

void raise_soon(Fiber& fiber) noexcept {
  note(fiber, 0);
}

void send_to_thread_of(Fiber& fiber, int number, const siginfo_t* info) noexcept {
  g_directed[number].store(&fiber);
  const long process = sys::call(SYS_getpid);
  const int thread = fiber.carrier().thread_id();
  if (info)
    sys::call(SYS_rt_tgsigqueueinfo, process, thread, number, info);
  else
    sys::call(SYS_tgkill, process, thread, number);
}

void forget_interruptions_of(Fiber& fiber) noexcept {
  fiber.signals.notes.fetch_and(kListed);
}

namespace {

void interrupt(Fiber& fiber, bool restart) noexcept {
  if (!fiber.interrupt(restart) && !restart) fiber.signals.missed.fetch_add(1, std::memory_order_relaxed);
}

// Has the handlers of what is pending for `fiber` alone run, here and one after the other: in the kernel,
// signals of one number that were sent to several fibers would be one.
void raise_pending(Carrier& carrier, Fiber& fiber) noexcept {
  const uint64_t mask = signal_mask_of(fiber);
  if (!(fiber.signals.pending.load(std::memory_order_seq_cst) & ~mask)) return;
  const uint64_t former = carrier.open_signal_mask(mask);
  while (const int number = take_pending(fiber, ~mask)) send_to_thread_of(fiber, number, nullptr);
  carrier.open_signal_mask(former);
}

}  // namespace

void deliver_interrupts(Carrier& carrier) noexcept {
  while (Fiber* fiber = g_noted.exchange(nullptr)) {
    while (fiber) {
      Fiber* next = fiber->signals.next_noted;
      const uint8_t notes = fiber->signals.notes.exchange(0);
      raise_pending(carrier, *fiber);
      if (notes & (kInterrupting | kRestarting)) interrupt(*fiber, !(notes & kInterrupting));
      fiber = next;
    }
  }
  const uint64_t interrupting = g_interrupting.exchange(0);
  for (uint64_t bits = interrupting | g_restarting.exchange(0); bits; bits &= bits - 1) {
    const uint64_t bit = bits & -bits;
    bool found = false;
    Fiber::for_each([&](Fiber& fiber) {
      if (!found && &fiber.carrier() == &carrier && !(signal_mask_of(fiber) & bit))
        found = fiber.interrupt(!(interrupting & bit));
    });
  }
}

void wrap_signal_handlers() noexcept {
  ActionsScope scope;
  for (int number = 1; number < kSignalLimit; ++number) {
    struct sigaction action {};
    if (real::sigaction(number, nullptr, &action) == 0 && is_function(action) && !is_trampoline(action))
      install_wrapped(number, action);
  }
}

int routed::sigaction(int number, const struct sigaction* action, struct sigaction* former) noexcept {
  if (!Runtime::get() || thread_state().in_vfork_child || number <= 0 || number >= kSignalLimit)
    return real::sigaction(number, action, former);
  ActionsScope scope;
  struct sigaction present {};
  if (real::sigaction(number, nullptr, &present) != 0) return -1;
  Action& ours = g_actions[number];
  if (is_trampoline(present)) {
    present.sa_handler = reinterpret_cast<SimpleHandler>(ours.handler.load());
    present.sa_flags = ours.flags.load();
    present.sa_mask = ours.mask;
  }
  int result = 0;
  if (action && is_function(*action)) {
    result = install_wrapped(number, *action);
  } else if (action) {
    result = real::sigaction(number, action, nullptr);
  }
  if (result == 0 && former) *former = present;
  return result;
}

sighandler_t routed::signal(int number, sighandler_t handler) noexcept {
  if (!Runtime::get()) return real::signal(number, handler);
  return install_simple(number, handler, SA_RESTART);
}

sighandler_t routed::sysv_signal(int number, sighandler_t handler) noexcept {
  if (!Runtime::get()) return real::sysv_signal(number, handler);
  return install_simple(number, handler, SA_RESETHAND | SA_NODEFER);
}

sighandler_t routed::sigset(int number, sighandler_t handler) noexcept {
  if (!Runtime::get()) return real::sigset(number, handler);
  sigset_t one, former;
  sigemptyset(&one);
  if (sigaddset(&one, number) != 0) return SIG_ERR;
  const bool hold = handler == SIG_HOLD;
  if (const int error = routed::pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &one, &former)) {
    errno = error;
    return SIG_ERR;
  }
  struct sigaction present {};
  if (hold ? routed::sigaction(number, nullptr, &present) != 0 : false) return SIG_ERR;
  const sighandler_t replaced = hold ? present.sa_handler : install_simple(number, handler, 0);
  return sigismember(&former, number) ? SIG_HOLD : replaced;
}

int routed::siginterrupt(int number, int interrupt) noexcept {
  if (!Runtime::get()) return real::siginterrupt(number, interrupt);
  struct sigaction action {};
  if (routed::sigaction(number, nullptr, &action) != 0) return -1;
  if (interrupt)
    action.sa_flags &= ~SA_RESTART;
  else
    action.sa_flags |= SA_RESTART;
  return routed::sigaction(number, &action, nullptr);
}

}  // namespace weft::engine::interpose
