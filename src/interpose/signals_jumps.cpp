// Signals: leaving a handler by longjmp().
//
// A jump that ends signal handlers skips the rest of the trampoline that called them, and may change the
// thread's signal mask by way of libc's inner calls. Both are made good before libc's own function jumps.
//
// A handler runs on the stack of the fiber that the signal happened to find. If that was the program's own
// code, on the fiber that setjmp() was called on, the jump is as good as natively. A jump out of the middle
// of a routed call, or to a stack that the signal did not find, would leave the engine's lists pointing into
// dead frames: that ends the program, and says why.
#include <bit>
#include <cstdlib>
#include <cstring>

#include "fiber/sys.hpp"
#include "interpose/calls.hpp"
#include "interpose/signals.hpp"

namespace weft::engine::interpose {

namespace {

// The stack pointer that a jump restores. Its place, and that it is rotated by 17 bits and mixed with a word
// of the thread control block, is the ABI of glibc on x86-64 (jmpbuf-offsets.h, pointer_guard.h), unchanged
// since 2.4.
uintptr_t target_stack(const __jmp_buf_tag* target) noexcept {
  constexpr int kStackPointer = 6;
  uintptr_t guard;
  asm("movq %%fs:0x30, %0" : "=r"(guard));
  return std::rotr(static_cast<uintptr_t>(target->__jmpbuf[kStackPointer]), 17) ^ guard;
}

[[noreturn]] void refuse(const char* reason) noexcept {
  for (const char* part : {"weft: longjmp() out of a signal handler ", reason,
                           "; under weft such a handler must return, or end the process\n"})
    sys::call(SYS_write, 2, part, strlen(part));
  abort();
}

bool is_on_stack_of(const Fiber& fiber, uintptr_t address) noexcept {
  return address - reinterpret_cast<uintptr_t>(fiber.stack().base) < fiber.stack().size();
}

// The handlers that a jump to `target` ends are over.
void leave_handlers(ThreadState& thread, uintptr_t target) noexcept {
  auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  bool left = false;
  while (HandlerFrame* handler = thread.handler) {
    if (here <= target && target < reinterpret_cast<uintptr_t>(handler->stack)) break;
    if (handler->in_engine) refuse("that interrupted a call which waits, or the switch between fibers");
    here = reinterpret_cast<uintptr_t>(handler->handled_at);
    thread.handler = handler->outer;
    --thread.no_switch;
    left = true;
  }
  if (!left || !thread.carrier || thread.handler) return;
  const Fiber& self = thread.carrier->running();
  bool elsewhere = !self.is_main() && !is_on_stack_of(self, target);
  if (self.is_main())
    Fiber::for_each([&](Fiber& fiber) { elsewhere |= !fiber.is_main() && is_on_stack_of(fiber, target); });
  if (elsewhere) refuse("to the stack of a fiber that the signal did not interrupt");
}

// All that must be done before libc jumps.
void prepare_jump(const __jmp_buf_tag* target) noexcept {
  ThreadState& thread = thread_state();
  const bool in_handler = thread.handler;
  if (in_handler) [[unlikely]]
    leave_handlers(thread, target_stack(target));
  if (thread.carrier && !thread.in_vfork_child)
    thread.carrier->pinned_calls().forget(thread.carrier->running(), target_stack(target));
  Fiber* self = mask_owner();
  if (!self) return;
  uint64_t mask = signal_mask_of(*self);
  if (target->__mask_was_saved)
    memcpy(&mask, &target->__saved_mask, sizeof mask);
  else if (in_handler)  // the thread goes on with the handler's mask
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &mask, sizeof mask);
  assume_mask(*self, mask);
}

}  // namespace

void routed::longjmp(__jmp_buf_tag* target, int value) noexcept {
  prepare_jump(target);
  real::longjmp(target, value);
  __builtin_unreachable();
}

void routed::_longjmp(__jmp_buf_tag* target, int value) noexcept {
  prepare_jump(target);
  real::_longjmp(target, value);
  __builtin_unreachable();
}

void routed::siglongjmp(__jmp_buf_tag* target, int value) noexcept {
  prepare_jump(target);
  real::siglongjmp(target, value);
  __builtin_unreachable();
}

void routed::__longjmp_chk(__jmp_buf_tag* target, int value) noexcept {
  prepare_jump(target);
  real::__longjmp_chk(target, value);
  __builtin_unreachable();
}

}  // namespace weft::engine::interpose
