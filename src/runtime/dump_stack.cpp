#include "runtime/dump_stack.hpp"

#include <ucontext.h>
#include <unwind.h>

#include <cstring>

namespace weft::engine::dump {

extern "C" {
_Unwind_Reason_Code weft_walk_stack(const StackContext* start, _Unwind_Trace_Fn visit, void* argument);
_Unwind_Reason_Code weft_walk_stack_interrupted(const StackContext* start, _Unwind_Trace_Fn visit,
                                                void* argument);
}

namespace {

struct Walk {
  Frame* frames;
  size_t limit;
  size_t count = 0;
  bool first = true;
  uintptr_t last_stack_pointer = 0;
};

_Unwind_Reason_Code visit(_Unwind_Context* context, void* argument) {
  Walk& walk = *static_cast<Walk*>(argument);
  if (walk.first) {  // weft_walk_stack itself
    walk.first = false;
    return _URC_NO_REASON;
  }
  int interrupted = 0;
  const uintptr_t address = _Unwind_GetIPInfo(context, &interrupted);
  const uintptr_t stack_pointer = _Unwind_GetCFA(context);
  if (address == 0 || walk.count == walk.limit) return _URC_END_OF_STACK;
  walk.frames[walk.count++] = {interrupted ? address : address - 1, interrupted != 0};
  // A walk that does not get up the stack would not end.
  if (stack_pointer == walk.last_stack_pointer) return _URC_END_OF_STACK;
  walk.last_stack_pointer = stack_pointer;
  return _URC_NO_REASON;
}

}  // namespace

StackContext StackContext::of_parked(fcontext_t context) noexcept {
  // The frame of switch_stack.S, which is also that of Boost.Context.
  struct Saved {
    uint64_t control_words, r12, r13, r14, r15, rbx, rbp, rip;
  } saved;
  memcpy(&saved, context, sizeof saved);
  StackContext start;
  start.rip = saved.rip;
  start.rsp = reinterpret_cast<uint64_t>(context) + sizeof saved;
  start.rbx = saved.rbx;
  start.rbp = saved.rbp;
  start.r12 = saved.r12;
  start.r13 = saved.r13;
  start.r14 = saved.r14;
  start.r15 = saved.r15;
  return start;
}

StackContext StackContext::of_call(const CallSite& site) noexcept {
  StackContext start;
  static_cast<CallSite&>(start) = site;
  return start;
}

StackContext StackContext::of_signal(const void* ucontext) noexcept {
  const auto* registers = static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs;
  const auto at = [&](int index) { return static_cast<uint64_t>(registers[index]); };
  StackContext start;
  start.rip = at(REG_RIP);
  start.rsp = at(REG_RSP);
  start.rbx = at(REG_RBX);
  start.rbp = at(REG_RBP);
  start.r12 = at(REG_R12);
  start.r13 = at(REG_R13);
  start.r14 = at(REG_R14);
  start.r15 = at(REG_R15);
  start.interrupted = true;
  return start;
}

size_t walk_stack(const StackContext& start, Frame* frames, size_t limit) noexcept {
  Walk walk{frames, limit};
  (start.interrupted ? weft_walk_stack_interrupted : weft_walk_stack)(&start, &visit, &walk);
  return walk.count;
}

void prepare_stack_walk() noexcept {
  _Unwind_Backtrace([](_Unwind_Context*, void*) { return _URC_END_OF_STACK; }, nullptr);
}

}  // namespace weft::engine::dump
