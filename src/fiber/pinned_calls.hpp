// Calls that block a carrier, for another thread to look at meanwhile.
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/clock.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

class Fiber;

/// Where a function stands: what a walk up its callers' stack begins with.
struct CallSite {
  uint64_t rip = 0, rsp = 0, rbx = 0, rbp = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;

  /// Of the function that this is inlined into. Good until that function returns.
  [[gnu::always_inline]] void capture() noexcept {
    asm volatile(
        "leaq 0(%%rip), %%rax; movq %%rax, 0(%0); movq %%rsp, 8(%0); movq %%rbx, 16(%0); movq %%rbp, 24(%0);"
        "movq %%r12, 32(%0); movq %%r13, 40(%0); movq %%r14, 48(%0); movq %%r15, 56(%0)"
        :
        : "r"(this)
        : "rax", "memory");
  }
};

/// A call that may block the carrier of the fiber that makes it. Lives on that fiber's stack.
struct PinnedCall {
  const char* name = "";         ///< static storage: "flock"
  const void* caller = nullptr;  ///< the code that makes it; null: not known
  Nanos since = 0;
  const Fiber* fiber = nullptr;
  CallSite site;
  PinnedCall* outer = nullptr;  ///< the one within which it is made (a signal handler's, say)
};

/// The calls that block one carrier now, one within the other. Unless said otherwise, a function is for the
/// carrier's own thread.
///
/// Whoever looks may walk the stack of the call, so the call does not return before that has ended: both
/// sides write their word and then read the other's, in one order for all (seq_cst), and so at least one of
/// them sees the other.
class PinnedCalls {
 public:
  constexpr PinnedCalls() noexcept = default;
  PinnedCalls(const PinnedCalls&) = delete;
  PinnedCalls& operator=(const PinnedCalls&) = delete;

  void enter(PinnedCall& call) noexcept {
    call.outer = innermost_.load(std::memory_order_relaxed);
    innermost_.store(&call, std::memory_order_release);
  }

  /// Waits while somebody looks: as long as it takes to walk a stack.
  void leave(const PinnedCall& call) noexcept { leave_to(call.outer); }

  /// A jump to where the stack stood at `stack_pointer` ends the calls that `fiber` made below without
  /// leave().
  void forget(const Fiber& fiber, uintptr_t stack_pointer) noexcept {
    PinnedCall* call = innermost_.load(std::memory_order_relaxed);
    if (!call || call->fiber != &fiber || call->site.rsp >= stack_pointer) return;
    while (call && call->fiber == &fiber && call->site.rsp < stack_pointer) call = call->outer;
    leave_to(call);
  }

  /// Calls visit(const PinnedCall&) for the innermost call, if there is one, which does not return meanwhile.
  /// Any thread but the carrier's, one at a time.
  template <typename Visit>
  void look(Visit&& visit) noexcept {
    looked_at_.store(1, std::memory_order_seq_cst);
    if (const PinnedCall* call = innermost_.load(std::memory_order_seq_cst)) visit(*call);
    looked_at_.store(0, std::memory_order_release);
    sys::futex_wake(&looked_at_, 1);
  }

  /// In a fork child, where nobody looks.
  void reset_after_fork() noexcept { looked_at_.store(0, std::memory_order_relaxed); }

 private:
  void leave_to(PinnedCall* outer) noexcept {
    innermost_.store(outer, std::memory_order_seq_cst);
    while (looked_at_.load(std::memory_order_seq_cst) != 0) sys::futex_wait(&looked_at_, 1);
  }

  std::atomic<PinnedCall*> innermost_{nullptr};
  std::atomic<uint32_t> looked_at_{0};
};

}  // namespace weft::engine
