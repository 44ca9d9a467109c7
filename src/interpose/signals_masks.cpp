// Signals: masks, waiting for a signal, and signals sent to one fiber.
//
// The kernel blocks for an OS thread; each fiber has a mask of its own, which the carrier adopts as it
// switches. A signal for the whole process is the kernel's to keep until some fiber would take it. One for a
// single fiber that blocks it is kept with the fiber, as the kernel would give it to whichever fiber runs
// next.
#include <sys/signalfd.h>

#include <atomic>
#include <bit>
#include <cstring>

#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/signals.hpp"
#include "interpose/support.hpp"
#include "interpose/threads.hpp"
#include "poll/poller.hpp"

namespace weft::engine::interpose {

namespace {

uint64_t bits_of(const sigset_t& set) noexcept {
  uint64_t bits;
  memcpy(&bits, &set, sizeof bits);
  // libc keeps two signals for itself, and lets nobody block them; nor does the kernel these.
  return bits & ~(uint64_t{3} << 31 | signal_bit(SIGKILL) | signal_bit(SIGSTOP));
}

sigset_t set_of(uint64_t bits) noexcept {
  sigset_t set;
  sigemptyset(&set);
  memcpy(&set, &bits, sizeof bits);
  return set;
}

bool is_libc_own(int number) noexcept {
  return number == 32 || number == 33;
}

// take_pending(), for callers who want to know more.
int take_own(Fiber& fiber, uint64_t bits, siginfo_t* info) noexcept {
  const int number = take_pending(fiber, bits);
  if (number && info) {
    *info = {};
    info->si_signo = number;
    info->si_code = SI_TKILL;
    info->si_pid = getpid();
    info->si_uid = getuid();
  }
  return number;
}

// Sends `number` to `fiber`: it is kept with it until it may be handled. Async-signal-safe.
void send_signal(Fiber& fiber, int number) noexcept {
  const uint64_t bit = signal_bit(number);
  const bool to_self = current_fiber() == &fiber;
  if (to_self && fiber.carrier().signals_blocked_by_all() & bit) {
    // The kernel can keep it as well, and shows it to signalfd.
    sys::call(SYS_tgkill, sys::call(SYS_getpid), fiber.carrier().thread_id(), number);
    return;
  }
  fiber.signals.pending.fetch_or(bit, std::memory_order_seq_cst);
  if (signal_mask_of(fiber) & bit) {
    if (fiber.signals.awaited.load(std::memory_order_seq_cst) & bit) interrupt_soon(fiber);
    return;
  }
  if (!to_self) return raise_soon(fiber);
  if (take_pending(fiber, bit)) send_to_thread_of(fiber, number, nullptr);
  forget_interruptions_of(fiber);
}

}  // namespace

int take_pending(Fiber& fiber, uint64_t bits) noexcept {
  for (;;) {
    const uint64_t pending = fiber.signals.pending.load(std::memory_order_seq_cst) & bits;
    if (!pending) return 0;
    const uint64_t first = pending & -pending;
    if (fiber.signals.pending.fetch_and(~first) & first) return std::countr_zero(first) + 1;
  }
}

Fiber* mask_owner() noexcept {
  const ThreadState& thread = thread_state();
  return thread.carrier && !thread.handler && !thread.in_vfork_child ? &thread.carrier->running() : nullptr;
}

uint64_t adopt_mask(Fiber& self, uint64_t mask) noexcept {
  const uint64_t former = self.carrier().set_signal_mask(mask);
  while (const int number = take_own(self, ~mask, nullptr)) send_to_thread_of(self, number, nullptr);
  forget_interruptions_of(self);
  return former;
}

void assume_mask(Fiber& self, uint64_t mask) noexcept {
  self.carrier().assume_signal_mask(mask);
  // The kernel still blocks these: it keeps them until libc has set the mask.
  while (const int number = take_own(self, ~mask, nullptr)) send_to_thread_of(self, number, nullptr);
}

namespace {

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
    } while (wake == Wake::kReady);
    if (wake != Wake::kInterrupted) return fail(revocation_error(wake));
  }
  return fail(EINTR);
}

// Takes a pending signal of `set` as soon as there is one. Returns its number or a negated errno.
int wait_for(const sigset_t& set, siginfo_t* info, Nanos deadline, const char* call) noexcept {
  static constexpr sys::Timespec kNow{0, 0};
  const uint64_t bits = bits_of(set);
  Fiber& self = *current_fiber();
  self.signals.awaited.store(bits, std::memory_order_seq_cst);
  int descriptor = -1;
  long taken;
  for (;;) {
    taken = take_own(self, bits, info);
    if (taken == 0) taken = sys::call(SYS_rt_sigtimedwait, &bits, info, &kNow, sizeof bits);
    if (taken != -EAGAIN || monotonic_now() >= deadline) break;
    if (descriptor < 0) {
      taken = sys::call(SYS_signalfd4, -1, &bits, sizeof bits, SFD_NONBLOCK | SFD_CLOEXEC);
      if (taken < 0) break;
      descriptor = make_private_fd(static_cast<int>(taken));
    }
    const Wake wake = Poller::of_this_carrier().wait(descriptor, /*POLLIN*/ 1, deadline,
                                                     kInterruptible | kCancellable, call);
    if (wake == Wake::kReady || wake == Wake::kTimeout) continue;
    const int revoked = revocation_error(wake);
    taken = revoked ? -revoked : take_own(self, bits, info);
    if (taken == 0) taken = -EINTR;
    break;
  }
  if (descriptor >= 0) {
    Poller::closing(descriptor);
    close_private_fd(descriptor);
  }
  self.signals.awaited.store(0, std::memory_order_relaxed);
  return static_cast<int>(taken);
}

}  // namespace

SignalMaskScope::SignalMaskScope(const sigset_t* mask) noexcept {
  Fiber* self = current_fiber();
  if (!mask || !self) return;
  const unsigned before = handlers_run();
  former_ = adopt_mask(*self, bits_of(*mask));
  set_ = true;
  interrupted_ = handlers_run() != before;
}

SignalMaskScope::~SignalMaskScope() {
  const ErrnoKeeper keeper;
  if (set_) adopt_mask(Carrier::current()->running(), former_);
}

int routed::pthread_sigmask(int how, const sigset_t* set, sigset_t* former) noexcept {
  Fiber* self = mask_owner();
  if (!self) return real::pthread_sigmask(how, set, former);
  const uint64_t present = signal_mask_of(*self);
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
  if (set) adopt_mask(*self, wanted);
  return 0;
}

int routed::sigprocmask(int how, const sigset_t* set, sigset_t* former) noexcept {
  if (!mask_owner()) return real::sigprocmask(how, set, former);
  const int error = routed::pthread_sigmask(how, set, former);
  return error ? fail(error) : 0;
}

int routed::sigsuspend(const sigset_t* mask) noexcept {
  if (!current_fiber()) return real::sigsuspend(mask);
  return suspend(bits_of(*mask), "sigsuspend");
}

int routed::pause() noexcept {
  if (!current_fiber()) return real::pause();
  return suspend(signal_mask_of(*current_fiber()), "pause");
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

int routed::sigpending(sigset_t* set) noexcept {
  const Fiber* self = mask_owner();
  const int result = real::sigpending(set);
  if (self && result == 0) *set = set_of(bits_of(*set) | self->signals.pending.load());
  return result;
}

int routed::pthread_kill(pthread_t thread, int number) noexcept {
  Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_kill(thread, number);
  if (number < 0 || number >= kSignalLimit || is_libc_own(number)) return EINVAL;
  if (fiber->done()) return ESRCH;
  if (number == 0) return 0;
  const ErrnoKeeper keeper;
  send_signal(*fiber, number);
  return 0;
}

// A value cannot be kept for a fiber that blocks the signal: that fails as if its queue were full.
int routed::pthread_sigqueue(pthread_t thread, int number, const sigval value) noexcept {
  Fiber* fiber = fiber_of(thread);
  if (!fiber) return real::pthread_sigqueue(thread, number, value);
  if (number < 0 || number >= kSignalLimit || is_libc_own(number)) return EINVAL;
  if (fiber->done()) return ESRCH;
  if (number == 0) return 0;
  if (signal_mask_of(*fiber) & signal_bit(number)) return EAGAIN;
  siginfo_t info{};
  info.si_signo = number;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value = value;
  const ErrnoKeeper keeper;
  send_to_thread_of(*fiber, number, &info);
  return 0;
}

int routed::raise(int number) noexcept {
  Fiber* self = mask_owner();
  if (!self || number <= 0 || number >= kSignalLimit || is_libc_own(number)) return real::raise(number);
  send_signal(*self, number);
  return 0;
}

// --- The older names.

int routed::sighold(int number) noexcept {
  sigset_t one;
  sigemptyset(&one);
  return sigaddset(&one, number) == 0 ? routed::sigprocmask(SIG_BLOCK, &one, nullptr) : -1;
}

int routed::sigrelse(int number) noexcept {
  sigset_t one;
  sigemptyset(&one);
  return sigaddset(&one, number) == 0 ? routed::sigprocmask(SIG_UNBLOCK, &one, nullptr) : -1;
}

int routed::sigblock(int mask) noexcept {
  const sigset_t set = set_of(static_cast<unsigned>(mask));
  sigset_t former;
  return routed::sigprocmask(SIG_BLOCK, &set, &former) == 0 ? static_cast<int>(bits_of(former)) : -1;
}

int routed::sigsetmask(int mask) noexcept {
  const sigset_t set = set_of(static_cast<unsigned>(mask));
  sigset_t former;
  return routed::sigprocmask(SIG_SETMASK, &set, &former) == 0 ? static_cast<int>(bits_of(former)) : -1;
}

int routed::__sigpause(int number_or_mask, int is_number) noexcept {
  Fiber* self = current_fiber();
  if (!self) return real::__sigpause(number_or_mask, is_number);
  if (!is_number) return suspend(static_cast<unsigned>(number_or_mask), "sigpause");
  if (number_or_mask <= 0 || number_or_mask >= kSignalLimit) return fail(EINVAL);
  return suspend(signal_mask_of(*self) & ~signal_bit(number_or_mask), "sigpause");
}

int routed::__xpg_sigpause(int number) noexcept {
  return routed::__sigpause(number, 1);
}

int routed::sigpause(int mask) noexcept {
  return routed::__sigpause(mask, 0);
}

}  // namespace weft::engine::interpose
