// What the engine keeps for each OS thread.
#pragma once

namespace weft::engine {

class Carrier;

/// A signal handler that is being run, on its own stack frame.
struct HandlerFrame {
  HandlerFrame* outer;     ///< the handler that it interrupted, or null
  const void* stack;       ///< where the handler's part of the stack begins
  const void* handled_at;  ///< where the stack stood that the signal came on
  bool in_engine;          ///< the signal came while the engine's own code ran: a call was being made
};

struct ThreadState {
  Carrier* carrier = nullptr;  ///< set while the thread runs fibers
  /// Above zero: a call made now must not switch (a signal handler, a vfork child, a section that holds a
  /// lock which libc keeps per OS thread). Such a call goes straight to libc.
  int no_switch = 0;
  bool in_vfork_child =
      false;  ///< this is a child that still shares its parent's memory; counts in no_switch as well
  bool wakes_newest = false;        ///< whoever wakes one waiter wakes the one that came last
  const void* actor = nullptr;      ///< the actor that it runs, at the moment, where it runs no fibers
  HandlerFrame* handler = nullptr;  ///< the innermost one being run; each counts in no_switch as well
};

/// The calling thread's state. Not to be kept across a switch: a fiber may continue on another thread.
ThreadState& thread_state() noexcept;

/// For a scope: calls made here block the OS thread instead of switching. Must not be left by a switch.
class [[nodiscard]] NoSwitchScope {
 public:
  NoSwitchScope() noexcept { ++thread_state().no_switch; }
  ~NoSwitchScope() { --thread_state().no_switch; }
  NoSwitchScope(const NoSwitchScope&) = delete;
  NoSwitchScope& operator=(const NoSwitchScope&) = delete;
};

}  // namespace weft::engine
