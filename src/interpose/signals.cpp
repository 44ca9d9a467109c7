// Signals: handlers run where the kernel delivers them, on the stack of whatever fiber runs; what they would
// have interrupted natively, a wait of the main thread, is interrupted by way of the scheduler.
//
// The kernel is given a trampoline, which marks the thread as inside a handler, so that routed calls made
// there go straight to libc and nothing switches, and tells the carrier afterwards. The program sees the
// handlers that it installed.
#include "interpose/signals.hpp"

#include <sys/signalfd.h>

#include <atomic>
#include <cstring>

#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/support.hpp"
#include "interpose/threads.hpp"
#include "poll/poller.hpp"
#include "runtime/runtime.hpp"

namespace weft::interpose {

namespace {

constexpr int kSignals = 65;

using SimpleHandler = void (*)(int);
using InfoHandler = void (*)(int, siginfo_t*, void*);

// What the program has installed for a signal. Read by handlers on any thread while another may be changing
// it: the two words a handler needs are atomic, the rest is only for sigaction()'s `old`.
struct Action {
  std::atomic<void*> handler{nullptr};  // null: the kernel has the program's own disposition
  std::atomic<int> flags{0};
  sigset_t mask{};
};
constinit Action g_actions[kSignals];
constinit FutexLock g_lock;

// What the attention hook has to pass on: a handler ran that restarts nothing, or one with SA_RESTART.
constexpr unsigned kInterrupt = 1, kRestart = 2;
constinit std::atomic<unsigned> g_pending{0};
constinit std::atomic<unsigned> g_handlers_run{0};
// The fiber that pthread_kill meant, for the next signal that the carrier handles.
constinit std::atomic<Fiber*> g_directed{nullptr};
constinit std::atomic<Fiber*> g_concerned{nullptr};

uint64_t bits_of(const sigset_t& set) noexcept {
  uint64_t bits;
  memcpy(&bits, &set, sizeof bits);
  // libc keeps two signals for itself, and lets nobody block them.
  return bits & ~(uint64_t{3} << 31);
}

sigset_t set_of(uint64_t bits) noexcept {
  sigset_t set;
  sigemptyset(&set);
  memcpy(&set, &bits, sizeof bits);
  return set;
}

void trampoline(int number, siginfo_t* info, void* context) {
  ThreadState& thread = thread_state();
  ++thread.in_handler;
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
  --thread.in_handler;
  if (!thread.carrier) return;  // the kernel itself interrupts what this OS thread waits for
  g_handlers_run.fetch_add(1, std::memory_order_relaxed);
  if (Fiber* directed = g_directed.exchange(nullptr)) g_concerned.store(directed);
  g_pending.fetch_or(flags & SA_RESTART ? kRestart : kInterrupt);
  thread.carrier->request_attention();
}

bool is_function(const struct sigaction& action) noexcept {
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
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

// The calling fiber parks until a handler interrupts it, with `mask` as its mask meanwhile.
int suspend(uint64_t mask, const char* call) noexcept {
  const sigset_t set = set_of(mask);
  SignalMaskScope scope(&set);
  if (!scope.interrupted()) {
    Fiber& self = *current_fiber();
    Wake wake;
    do {
      self.begin_wait(kInterruptible | kCancellable, {WaitKind::kOther, call});
      wake = self.carrier().park();
    } while (wake != Wake::kInterrupted && wake != Wake::kCancelled);
    if (wake == Wake::kCancelled) return fail(ECANCELED);
  }
  return fail(EINTR);
}

// Takes a pending signal of `set` as soon as there is one. Returns its number or a negated errno.
int wait_for(const sigset_t& set, siginfo_t* info, Nanos deadline, const char* call) noexcept {
  static constexpr sys::Timespec kNow{0, 0};
  const uint64_t bits = bits_of(set);
  int descriptor = -1;
  for (;;) {
    long taken = sys::call(SYS_rt_sigtimedwait, &bits, info, &kNow, sizeof bits);
    if (taken == -EAGAIN && monotonic_now() < deadline) {
      if (descriptor < 0) {
        const long opened = sys::call(SYS_signalfd4, -1, &bits, sizeof bits, SFD_NONBLOCK | SFD_CLOEXEC);
        if (opened < 0) return static_cast<int>(opened);
        descriptor = make_private_fd(static_cast<int>(opened));
      }
      const Wake wake = Poller::of_this_carrier().wait(descriptor, /*POLLIN*/ 1, deadline,
                                                       kInterruptible | kCancellable, call);
      if (wake == Wake::kReady || wake == Wake::kTimeout) continue;
      taken = wake == Wake::kCancelled ? -ECANCELED : -EINTR;
    }
    if (descriptor >= 0) {
      Poller::closing(descriptor);
      close_private_fd(descriptor);
    }
    return static_cast<int>(taken);
  }
}

sighandler_t install_simple(int number, sighandler_t handler, int flags) noexcept {
  struct sigaction action {
  }, former{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (!(flags & SA_NODEFER)) sigaddset(&action.sa_mask, number);
  return routed::sigaction(number, &action, &former) == 0 ? former.sa_handler : SIG_ERR;
}

}  // namespace

SignalMaskScope::SignalMaskScope(const sigset_t* mask) noexcept {
  Fiber* self = current_fiber();
  if (!mask || !self) return;
  const unsigned before = handlers_run();
  former_ = self->carrier().set_signal_mask(bits_of(*mask));
  set_ = true;
  interrupted_ = handlers_run() != before;
}

SignalMaskScope::~SignalMaskScope() {
  const ErrnoKeeper keeper;
  if (set_) Carrier::current()->set_signal_mask(former_);
}

unsigned handlers_run() noexcept {
  return g_handlers_run.load(std::memory_order_relaxed);
}

void deliver_interrupts(Carrier& carrier) noexcept {
  const unsigned pending = g_pending.exchange(0);
  if (!pending) return;
  Fiber* concerned = g_concerned.exchange(nullptr);
  Fiber& target = concerned ? *concerned : carrier.main_fiber();
  target.interrupt(!(pending & kInterrupt));
}

void wrap_signal_handlers() noexcept {
  ActionsScope scope;
  for (int number = 1; number < kSignals; ++number) {
    struct sigaction action {};
    if (real::sigaction(number, nullptr, &action) == 0 && is_function(action) && !is_trampoline(action))
      install_wrapped(number, action);
  }
}

int routed::sigaction(int number, const struct sigaction* action, struct sigaction* former) noexcept {
  if (!Runtime::get() || thread_state().in_vfork_child || number <= 0 || number >= kSignals)
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

int routed::pthread_sigmask(int how, const sigset_t* set, sigset_t* former) noexcept {
  Fiber* self = current_fiber();
  if (!self) return real::pthread_sigmask(how, set, former);
  const uint64_t present = self->identity().signal_mask;
  uint64_t wanted = present;
  if (set) {
    const uint64_t bits = bits_of(*set);
    if (how == SIG_BLOCK)
      wanted |= bits;
    else if (how == SIG_UNBLOCK)
      wanted &= ~bits;
    else if (how == SIG_SETMASK)
      wanted = bits;
    else
      return EINVAL;
  }
  if (former) *former = set_of(present);
  const ErrnoKeeper keeper;
  self->carrier().set_signal_mask(wanted);
  return 0;
}

int routed::sigprocmask(int how, const sigset_t* set, sigset_t* former) noexcept {
  if (!current_fiber()) return real::sigprocmask(how, set, former);
  const int error = routed::pthread_sigmask(how, set, former);
  return error ? fail(error) : 0;
}

int routed::sigsuspend(const sigset_t* mask) noexcept {
  if (!current_fiber()) return real::sigsuspend(mask);
  return suspend(bits_of(*mask), "sigsuspend");
}

int routed::pause() noexcept {
  if (!current_fiber()) return real::pause();
  return suspend(current_fiber()->identity().signal_mask, "pause");
}

int routed::sigwait(const sigset_t* set, int* number) noexcept {
  if (!current_fiber()) return real::sigwait(set, number);
  const ErrnoKeeper keeper;
  int taken;
  do taken = wait_for(*set, nullptr, kNever, "sigwait");
  while (taken == -EINTR);
  if (taken < 0) return -taken;
  *number = taken;
  return 0;
}

int routed::sigwaitinfo(const sigset_t* set, siginfo_t* info) noexcept {
  if (!current_fiber()) return real::sigwaitinfo(set, info);
  const int taken = wait_for(*set, info, kNever, "sigwaitinfo");
  return taken < 0 ? fail(-taken) : taken;
}

int routed::sigtimedwait(const sigset_t* set, siginfo_t* info, const timespec* timeout) noexcept {
  if (!current_fiber()) return real::sigtimedwait(set, info, timeout);
  if (timeout && !valid(*timeout)) return fail(EINVAL);
  const Nanos deadline = timeout ? later(monotonic_now(), to_nanos(*timeout)) : kNever;
  const int taken = wait_for(*set, info, deadline, "sigtimedwait");
  return taken < 0 ? fail(-taken) : taken;
}

// A signal for one fiber is sent to its carrier, and interrupts that fiber's wait once handled.
int routed::pthread_kill(pthread_t thread, int number) noexcept {
  Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_kill(thread, number);
  if (number < 0 || number >= kSignals) return EINVAL;
  if (fiber->done()) return ESRCH;
  if (number == 0) return 0;
  g_directed.store(fiber);
  return static_cast<int>(
      -sys::call(SYS_tgkill, sys::call(SYS_getpid), fiber->carrier().thread_id(), number));
}

}  // namespace weft::interpose
