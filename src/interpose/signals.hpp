// Signals for a process whose threads are fibers.
#pragma once

#include <csignal>

#include "fiber/carrier.hpp"

namespace weft::interpose {

/// Wraps the handlers that the program has installed so far. Called once the runtime has started, on its
/// carrier.
void wrap_signal_handlers() noexcept;

/// Interrupts the fibers that handlers ran for since the last call. Part of the attention hook.
void deliver_interrupts(Carrier& carrier) noexcept;

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

}  // namespace weft::interpose
