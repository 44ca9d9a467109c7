// Signals for a process whose threads are fibers.
#pragma once

#include <csignal>

#include "fiber/carrier.hpp"

namespace weft::engine::interpose {

/// Signals have numbers from 1 to below this.
inline constexpr int kSignalLimit = 65;

/// The bit of a signal in masks, as in Identity::signal_mask.
constexpr uint64_t signal_bit(int number) noexcept {
  return uint64_t{1} << (number - 1);
}

/// A fiber's mask as any thread sees it.
inline uint64_t signal_mask_of(Fiber& fiber) noexcept {
  return __atomic_load_n(&fiber.identity().signal_mask, __ATOMIC_SEQ_CST);
}

/// The running fiber where a call would change its mask, also where it must not switch; null where it would
/// change the OS thread's: off fibers, in a handler, in a vfork child.
Fiber* mask_owner() noexcept;

/// Makes `mask` that of `self`, the running fiber, and returns the former one. The handlers of what was
/// pending and is no longer blocked have run.
uint64_t adopt_mask(Fiber& self, uint64_t mask) noexcept;

/// The same where libc is about to set the OS thread's mask, and is the one to let handlers run.
void assume_mask(Fiber& self, uint64_t mask) noexcept;

/// Wraps the handlers that the program has installed so far. Called once the runtime has started, on its
/// carrier.
void wrap_signal_handlers() noexcept;

/// Interrupts the fibers that handlers ran for since the last call. Part of the attention hook.
void deliver_interrupts(Carrier& carrier) noexcept;

/// Takes the first of `bits` that is pending for `fiber` alone. Returns its number, or 0. Async-signal-safe.
int take_pending(Fiber& fiber, uint64_t bits) noexcept;

/// Ends the present wait of `fiber`, at the carrier's next switch, as a handler would. Async-signal-safe.
void interrupt_soon(Fiber& fiber) noexcept;

/// Has the handlers of what is pending for `fiber` and not blocked run at the carrier's next switch, and
/// interrupt it. Async-signal-safe.
void raise_soon(Fiber& fiber) noexcept;

/// Has the carrier of `fiber` take the signal, with `info` if not null; its handler will have interrupted
/// `fiber`. Async-signal-safe.
void send_to_thread_of(Fiber& fiber, int number, const siginfo_t* info) noexcept;

/// What handlers have run so far ends no wait of `fiber`, which is running: its next wait begins after them.
void forget_interruptions_of(Fiber& fiber) noexcept;

/// How many handlers have run on the calling thread's carrier: a wait with a mask of its own compares it, to
/// see whether a pending signal came the moment the mask was set.
unsigned handlers_run() noexcept;

/// For a scope, `mask` is the running fiber's signal mask, as ppoll and kin take it.
class [[nodiscard]] SignalMaskScope {
 public:
  explicit SignalMaskScope(const sigset_t* mask) noexcept;
  ~SignalMaskScope();
  SignalMaskScope(const SignalMaskScope&) = delete;
  SignalMaskScope& operator=(const SignalMaskScope&) = delete;
  /// True if setting the mask let a pending signal's handler run: the wait is to fail with EINTR at once.
  bool interrupted() const noexcept { return interrupted_; }

 private:
  uint64_t former_ = 0;
  bool set_ = false;
  bool interrupted_ = false;
};

}  // namespace weft::engine::interpose
