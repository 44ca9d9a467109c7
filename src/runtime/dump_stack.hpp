// Walking native stacks: a parked fiber's, or that of an interrupted thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fiber/context.hpp"
#include "fiber/pinned_calls.hpp"

namespace weft::engine::dump {

/// Where a walk begins. dump_stack.S knows the layout.
struct StackContext : CallSite {
  /// rip is the very instruction that was interrupted, and not where a call returns to.
  bool interrupted = false;

  /// Of a fiber that is not running. REQUIRES: it stays so, and has run.
  static StackContext of_parked(fcontext_t context) noexcept;
  /// Of a function that has not returned since.
  static StackContext of_call(const CallSite& site) noexcept;
  /// What a signal handler got as its third argument.
  static StackContext of_signal(const void* ucontext) noexcept;
};

struct Frame {
  uintptr_t address = 0;     ///< in the function: a return address is reduced by one
  bool interrupted = false;  ///< as in StackContext; of a signal handler's caller, too
};

/// Writes the frames, innermost first, into `frames`; returns how many there were, at most `limit`. Ends
/// early where an object has no unwind tables.
///
/// The compiler's own unwinder does it, told that it was called from `start`. Unlike libunwind, it finds the
/// tables through the loader's lock-free index (_dl_find_object), so that it works in a signal handler, and
/// next to a thread that was stopped with the loader's lock in its hands; and C++ exceptions keep it in every
/// program anyway.
///
/// Allocates nothing; async-signal-safe once prepare() was called. Reads the stack as it is: a corrupt one
/// can raise SIGSEGV, which a crash handler must be ready for.
size_t walk_stack(const StackContext& start, Frame* frames, size_t limit) noexcept;

/// Has the unwinder build its tables.
void prepare_stack_walk() noexcept;

}  // namespace weft::engine::dump
